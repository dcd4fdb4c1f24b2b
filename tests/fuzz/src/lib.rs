//! What strangers and disks feed Mooring, one module a kind of input: `check` takes any bytes and panics where something that must hold
//! does not. `make fuzz` runs each under libFuzzer; inputs that once found something stand in `corpus/` and are replayed by plain tests.

#![forbid(unsafe_code)]

pub mod annotations;
pub mod assignments;
pub mod configuration;
pub mod decide;
pub mod frames;
pub mod ranges;
pub mod records;

mod bytes;

/// Checks every input of a corpus.
#[cfg(test)]
fn replay(name: &str, check: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let inputs: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "{} has no inputs", folder.display());
    for input in inputs {
        check(&std::fs::read(&input).unwrap());
    }
}

//! Records as JSON lines: out of a data directory that cannot be opened any more, or into a new one.
//!
//! A line is `{"key": …, "record": …}`, the record as base-16 text of its bytes, checksum and all, with a `summary` for people.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use crate::store::{LeaseStore, Record};

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    record: String,
    #[serde(default)]
    summary: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect())
}

/// Writes every record that can be read; those that cannot are named on `trouble`, and their number is returned.
///
/// # Errors
/// The records are in use, the disk fails, or the output cannot be written.
pub fn export(data_dir: &Path, output: &mut impl Write, trouble: &mut impl Write) -> anyhow::Result<usize> {
    let mut damaged = 0;
    for record in LeaseStore::open_unchecked(data_dir)?.scan()? {
        match record {
            Ok(record) => {
                let line = Line { key: record.key(), record: hex(&record.encode()), summary: format!("{record:?}") };
                writeln!(output, "{}", serde_json::to_string(&line)?)?;
            }
            Err(error) => {
                damaged += 1;
                writeln!(trouble, "left out: {error}")?;
            }
        }
    }
    Ok(damaged)
}

/// Reads records into a data directory that has none.
///
/// # Errors
/// The directory has records, a line is no record, or the disk fails.
pub fn import(data_dir: &Path, input: &mut impl BufRead) -> anyhow::Result<usize> {
    let mut records = Vec::new();
    for (index, text) in input.lines().enumerate() {
        let number = index.saturating_add(1);
        let line: Line = serde_json::from_str(&text?).with_context(|| format!("line {number} is no record"))?;
        let bytes = unhex(&line.record).with_context(|| format!("line {number}: record is not base-16 text"))?;
        records.push(Record::decode(line.key.as_bytes(), &bytes).with_context(|| format!("line {number}"))?);
    }
    let (store, present) = LeaseStore::open(data_dir)?;
    ensure!(present.is_empty(), "{} has records already", data_dir.display());
    store.write(&records, &[])?;
    Ok(records.len())
}

#[cfg(test)]
mod tests {
    use mooring_proto::types::history::PastFact;
    use mooring_proto::types::time::UnixMillis;

    use super::*;
    use crate::core::tests::{Rig, claim, pool};
    use crate::store::HistoryQuery;
    use crate::store::sled_tree::tests::copy;

    #[test]
    fn what_is_exported_can_be_imported() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
        rig.claim(claim("web")).unwrap();
        rig.reserve("10.0.0.3/default/other", Some(60)).unwrap();
        let (mut store, _) = LeaseStore::open(old.path()).unwrap();
        let reservation = rig.state.book().reservations().all().values().next().cloned().unwrap();
        store.note(vec![PastFact::Reserved(reservation.clone())], UnixMillis(7));
        store.append(&rig.events).unwrap();
        drop(store);
        let (mut lines, mut trouble) = (Vec::new(), Vec::new());
        assert_eq!((export(copy(old.path()).path(), &mut lines, &mut trouble).unwrap(), trouble), (0, vec![]));
        let imported = import(new.path(), &mut lines.as_slice()).unwrap();
        let records = |path: &Path| LeaseStore::open(copy(path).path()).unwrap().1;
        assert_eq!((imported, records(new.path())), (records(old.path()).len() + 1, records(old.path())));
        assert!(records(new.path()).contains(&Record::Reservation(reservation)));
        let history = LeaseStore::open(copy(new.path()).path()).unwrap().0.history();
        let (past, _) = history.page(&HistoryQuery { size: 9, ..HistoryQuery::default() }, history.end()).unwrap();
        assert_eq!((past.len(), history.since().unwrap()), (1, UnixMillis(7)), "the history too");
        assert!(import(copy(new.path()).path(), &mut lines.as_slice()).unwrap_err().to_string().ends_with("has records already"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = import(folder.path(), &mut "{\"key\":\"meta/term\",\"record\":\"0x\"}\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 1: record is not base-16 text");
    }
}

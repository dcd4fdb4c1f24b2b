//! What the cores speak: parsed once at the edge, wrong values cannot be made.

pub mod address;
pub mod assignment;
pub mod backends;
pub mod claim;
pub mod history;
pub mod labels;
pub mod lease;
pub mod node;
pub mod pool;
pub mod reservation;
pub mod service;
pub mod time;

/// Whether a text is a name that Kubernetes would give to an object: lower case letters, digits, `-` and `.`, a letter or digit at both
/// ends, at most 253 characters (RFC 1123). It may become part of a key or of a file's name.
fn is_object_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
    ends && text.len() <= 253 && text.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'))
}

//! Records as a disk may give them back.

use mooring_allocator::store::Record;

/// A key, a line feed, then the bytes of a record without its checksum, which is put right so that what comes behind it is reached too.
///
/// # Panics
/// A record that was read is written differently, or damage is not noticed.
pub fn check(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (key, rest) = data.split_at(split);
    let bytes = rest.get(1..).unwrap_or_default();
    // As it is: nearly always damaged.
    drop(Record::decode(key, bytes));
    let Some((version, payload)) = bytes.split_first() else { return };
    let mut whole = vec![*version];
    whole.extend(crc32fast::hash(payload).to_le_bytes());
    whole.extend(payload);
    let Ok(record) = Record::decode(key, &whole) else { return };
    let again = record.encode();
    assert_eq!(Record::decode(record.key().as_bytes(), &again).ok(), Some(record), "{key:?}");
    if let Some(last) = whole.last_mut() {
        *last ^= 1;
        assert!(Record::decode(key, &whole).is_err(), "{key:?}: damage is not noticed");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("records", super::check);
    }
}

//! An input, taken apart piece by piece.

/// What is left of the input.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// One of so many.
    pub(crate) fn of(&mut self, many: u8) -> Option<u8> {
        self.next()?.checked_rem(many)
    }

    pub(crate) fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        let index = self.of(u8::try_from(list.len()).ok()?)?;
        list.get(usize::from(index)).cloned()
    }
}

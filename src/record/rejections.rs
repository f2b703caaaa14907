//! Rejected records in a row, with none between them that was applied: too many stop a partition.

/// How many records in a row are rejected, and where the first of them stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    /// How many; 0 behind a record that was applied.
    pub in_a_row: usize,
    /// The offset of the first of them.
    pub from: i64,
}

impl Rejections {
    /// Counts the record at `offset`.
    pub fn add(&mut self, offset: i64) {
        if self.in_a_row == 0 {
            self.from = offset;
        }
        self.in_a_row += 1;
    }

    /// Begins anew, behind a record that is applied.
    pub fn clear(&mut self) {
        *self = Rejections::default();
    }

    /// Whether these are too many; a limit of 0 is none.
    pub fn reach(&self, in_a_row_max: usize) -> bool {
        in_a_row_max > 0 && self.in_a_row >= in_a_row_max
    }
}

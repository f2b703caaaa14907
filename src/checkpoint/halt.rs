//! Why a partition may not be applied any further until a person says how: noted on its checkpoint,
//! so that no restart forgets it.

use bson::{Bson, DateTime, Document, doc};

use super::number;
use crate::record::Rejections;

/// A partition that has stopped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Why.
    pub reason: HaltReason,
    /// The offset of the first record that it is about.
    pub from: i64,
}

/// Why a partition has stopped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaltReason {
    /// Too many records in a row were rejected: all of them are dead letters.
    Rejections,
    /// The batch of records there cannot be read: none of it was.
    Unreadable,
}

impl HaltReason {
    const ALL: [HaltReason; 2] = [HaltReason::Rejections, HaltReason::Unreadable];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            HaltReason::Rejections => "rejections",
            HaltReason::Unreadable => "unreadable",
        }
    }
}

impl Halt {
    /// The value of the checkpoint's field `halt`.
    pub fn document(&self) -> Document {
        doc! { "reason": self.reason.as_str(), "from": self.from, "at": DateTime::now() }
    }

    /// Reads that value. One that another release wrote halts as well.
    pub(super) fn read(document: &Document) -> Halt {
        let stored = document.get_str("reason").unwrap_or_default();
        let reason = HaltReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == stored);
        Halt {
            reason: reason.unwrap_or(HaltReason::Rejections),
            from: number(document, "from").unwrap_or(0),
        }
    }
}

/// The value of the checkpoint's field `rejections`.
pub fn rejections(rejections: Rejections) -> Bson {
    match rejections.in_a_row {
        0 => Bson::Null,
        in_a_row => Bson::from(doc! { "in_a_row": in_a_row as i64, "from": rejections.from }),
    }
}

/// What a checkpoint says of the rejections before it.
pub(super) fn read_rejections(checkpoint: &Document) -> Rejections {
    let Ok(stored) = checkpoint.get_document("rejections") else {
        return Rejections::default();
    };
    let in_a_row = number(stored, "in_a_row").and_then(|count| usize::try_from(count).ok());
    Rejections {
        in_a_row: in_a_row.unwrap_or(0),
        from: number(stored, "from").unwrap_or(0),
    }
}

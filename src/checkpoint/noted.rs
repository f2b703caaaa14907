//! What a checkpoint says beside its offset: the leader epoch of what stands before it, the
//! rejections before it, and why nothing behind it may be applied until a person says how.
//!
//! Each names the offset that it was noted at, and counts only there: a worker of an earlier
//! release moves the offset and leaves the rest as it is.

use bson::{Bson, DateTime, Document, doc};

use crate::database::values::number;
use crate::record::{Position, Rejections};

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
    /// The value of the field `halt` of a checkpoint at `next_offset`.
    pub fn document(&self, next_offset: i64) -> Document {
        doc! {
            "reason": self.reason.as_str(),
            "from": self.from,
            "at": next_offset,
            "since": DateTime::now(),
        }
    }

    /// Reads that value. One that another release wrote halts as well.
    pub(super) fn read(checkpoint: &Document, next_offset: i64) -> Option<Halt> {
        let document = noted_at(checkpoint, "halt", next_offset)?;
        let stored = document.get_str("reason").unwrap_or_default();
        let reason = HaltReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == stored);
        Some(Halt {
            reason: reason.unwrap_or(HaltReason::Rejections),
            from: number(document.get("from")).unwrap_or(0),
        })
    }
}

/// The value of the field `leader_epoch` of a checkpoint at this position.
pub fn leader_epoch(position: Position) -> Bson {
    let of = |epoch: i32| Bson::from(doc! { "epoch": epoch, "at": position.offset });
    position.leader_epoch.map_or(Bson::Null, of)
}

pub(super) fn read_leader_epoch(checkpoint: &Document, next_offset: i64) -> Option<i32> {
    let noted = noted_at(checkpoint, "leader_epoch", next_offset)?;
    let epoch = i32::try_from(number(noted.get("epoch"))?).ok()?;
    (epoch >= 0).then_some(epoch)
}

/// The value of the field `reject_next` of a checkpoint at `next_offset`.
pub fn reject_next(next_offset: i64) -> Bson {
    Bson::from(doc! { "at": next_offset })
}

pub(super) fn reads_reject_next(checkpoint: &Document, next_offset: i64) -> bool {
    noted_at(checkpoint, "reject_next", next_offset).is_some()
}

/// A field of a checkpoint, if it was noted where the checkpoint stands.
fn noted_at<'d>(checkpoint: &'d Document, name: &str, next_offset: i64) -> Option<&'d Document> {
    let noted = checkpoint.get_document(name).ok()?;
    (number(noted.get("at")) == Some(next_offset)).then_some(noted)
}

/// The value of the field `rejections` of a checkpoint at `next_offset`.
pub fn rejections(rejections: Rejections, next_offset: i64) -> Bson {
    let Rejections { in_a_row, from } = rejections;
    match in_a_row {
        0 => Bson::Null,
        _ => Bson::from(doc! { "in_a_row": in_a_row as i64, "from": from, "at": next_offset }),
    }
}

/// What a checkpoint says of the rejections before it.
pub(super) fn read_rejections(checkpoint: &Document, next_offset: i64) -> Rejections {
    let Some(stored) = noted_at(checkpoint, "rejections", next_offset) else {
        return Rejections::default();
    };
    let in_a_row = number(stored.get("in_a_row")).and_then(|count| usize::try_from(count).ok());
    Rejections {
        in_a_row: in_a_row.unwrap_or(0),
        from: number(stored.get("from")).unwrap_or(0),
    }
}

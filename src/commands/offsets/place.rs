//! A partition's checkpoint beside its log, and where a command would move it. Pure.

use anyhow::{anyhow, bail};
use bson::{Bson, DateTime, Document};

use crate::checkpoint::{
    Checkpoint, Found, Halt, HaltReason, PartitionLog, Standing, first_offset, standing,
};
use crate::cli::{HaltResolution, ResetTarget};
use crate::config::Start;
use crate::record::Partition;

/// A partition, its log, and its checkpoint.
pub(in crate::commands) struct Place {
    pub(in crate::commands) partition: Partition,
    pub(in crate::commands) log: PartitionLog,
    pub(super) checkpoint: Stored,
    pub(in crate::commands) updated_at: Option<DateTime>,
    /// The host of the worker that claimed it last, which is its pod.
    pub(in crate::commands) host: Option<String>,
    /// The id that this worker had in the group then.
    pub(in crate::commands) member_id: Option<String>,
}

/// What is stored of a checkpoint.
#[derive(Clone)]
pub(super) enum Stored {
    Absent,
    /// Something that is not a checkpoint, with its `next_offset`.
    Unreadable(Option<Bson>),
    Checkpoint(Checkpoint),
}

impl Stored {
    pub(super) fn read(document: &Document) -> Stored {
        match Checkpoint::read(document) {
            Ok(checkpoint) => Stored::Checkpoint(checkpoint),
            Err(_) => Stored::Unreadable(document.get("next_offset").cloned()),
        }
    }

    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        match self {
            Stored::Checkpoint(checkpoint) => Some(checkpoint),
            Stored::Absent | Stored::Unreadable(_) => None,
        }
    }

    /// As the guard of a change.
    pub(super) fn as_found(&self) -> Found<'_> {
        match self {
            Stored::Absent => Found::Absent,
            Stored::Unreadable(next_offset) => Found::Unreadable(next_offset.as_ref()),
            Stored::Checkpoint(checkpoint) => Found::Checkpoint(checkpoint),
        }
    }

    /// Whether nothing but its owner changed until it was `found`.
    pub(super) fn was_only_claimed(&self, found: &Checkpoint) -> bool {
        self.checkpoint().is_some_and(|shown| {
            (shown.position(), shown.topic_id) == (found.position(), found.topic_id)
        })
    }
}

impl Place {
    pub(in crate::commands) fn next_offset(&self) -> Option<i64> {
        Some(self.checkpoint.checkpoint()?.next_offset)
    }

    /// Whether no service of the group has begun it yet.
    pub(in crate::commands) fn is_new(&self) -> bool {
        matches!(self.checkpoint, Stored::Absent)
    }

    /// How many records the service still has to apply, where that is known: all that is left of
    /// the log, where it is another topic's or begins behind the checkpoint.
    pub(in crate::commands) fn lag(&self) -> Option<i64> {
        let left = self.log.offsets.end - self.applied_to()?;
        Some(left.max(0))
    }

    /// The offset in this log before which all is applied, where that is known.
    pub(in crate::commands) fn applied_to(&self) -> Option<i64> {
        let start = self.log.offsets.start;
        match self.is_another_topics() {
            true => Some(start),
            false => Some(self.next_offset().or(self.log.committed)?.max(start)),
        }
    }

    /// Whether the checkpoint belongs to a topic of this name that was deleted.
    fn is_another_topics(&self) -> bool {
        let checkpoint = self.checkpoint.checkpoint();
        checkpoint.is_some_and(|checkpoint| {
            matches!(standing(checkpoint, &self.log), Standing::Recreated(_))
        })
    }

    pub(in crate::commands) fn state(&self) -> &'static str {
        match &self.checkpoint {
            Stored::Absent => "no checkpoint",
            Stored::Unreadable(_) => "unreadable",
            Stored::Checkpoint(checkpoint) => match standing(checkpoint, &self.log) {
                Standing::Resume | Standing::Adopt => match checkpoint.halt {
                    Some(halt) if halt.reason == HaltReason::Rejections => "halted by rejections",
                    Some(_) => "halted: unreadable",
                    None if self.is_held(checkpoint) => "held by an open transaction",
                    None => "ok",
                },
                Standing::Recreated(_) => "topic recreated",
                Standing::Expired => "before the log",
                Standing::Truncated => "truncated",
                Standing::Stale => "the broker is behind",
            },
        }
    }

    /// Whether all that is stable is applied, and more stands behind an open transaction.
    fn is_held(&self, checkpoint: &Checkpoint) -> bool {
        let stable_end = self.log.stable_end;
        stable_end < self.log.offsets.end && checkpoint.next_offset >= stable_end
    }

    /// Whether the service stops here, or would start over.
    pub(in crate::commands) fn is_stuck(&self, start: Start) -> bool {
        match &self.checkpoint {
            Stored::Absent => first_offset(&self.log, start).is_err(),
            Stored::Unreadable(_) => true,
            Stored::Checkpoint(checkpoint) => match standing(checkpoint, &self.log) {
                Standing::Resume | Standing::Adopt => checkpoint.halt.is_some(),
                Standing::Stale => false,
                Standing::Recreated(_) | Standing::Expired | Standing::Truncated => true,
            },
        }
    }

    /// Whether a person has to say how it continues.
    pub(in crate::commands) fn is_halted(&self) -> bool {
        self.halted().is_some()
    }

    /// Its checkpoint and why it is halted, if it is, inside its log.
    fn halted(&self) -> Option<(&Checkpoint, Halt)> {
        let checkpoint = self.checkpoint.checkpoint()?;
        let is_inside = matches!(
            standing(checkpoint, &self.log),
            Standing::Resume | Standing::Adopt
        );
        Some((checkpoint, checkpoint.halt.filter(|_| is_inside)?))
    }
}

/// Where a checkpoint is to be moved.
pub(super) struct Move {
    pub(super) place: Place,
    pub(super) to: i64,
    /// Whether the record there is to be a dead letter.
    pub(super) reject_next: bool,
}

impl Move {
    pub(super) fn effect(&self) -> String {
        if self.reject_next {
            return format!("the record at {} becomes a DEAD LETTER", self.to);
        }
        if self.place.is_another_topics() {
            let records = self.place.log.offsets.end - self.to;
            return format!("applies the new topic, {records} record(s)");
        }
        match self.place.next_offset() {
            Some(from) if self.to < from => format!("replays {}", from - self.to),
            Some(from) if self.to > from => format!("SKIPS {}", self.to - from),
            Some(_) => "stays".to_owned(),
            None => "starts there".to_owned(),
        }
    }
}

/// The offset that `to` means in one log; `at` is the first record of the time asked for.
pub(super) fn target(to: ResetTarget, place: &Place, at: Option<i64>) -> anyhow::Result<i64> {
    let log = &place.log.offsets;
    Ok(match to {
        ResetTarget::Earliest => log.start,
        ResetTarget::Latest => place.log.stable_end,
        ResetTarget::Time(_) => at.unwrap_or(place.log.stable_end),
        ResetTarget::Offset(offset) if (log.start..=log.end).contains(&offset) => offset,
        ResetTarget::Offset(offset) => bail!(
            "{offset} is not in the log of {}, which goes from {} to {}",
            place.partition,
            log.start,
            log.end
        ),
    })
}

/// Where a stuck partition continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// At this offset.
    To(i64),
    /// Behind what cannot be read from this offset on: the broker has to be asked where that is.
    BehindUnreadable(i64),
}

/// Makes the record at the checkpoint a dead letter: for one that MongoDB does not take, and does
/// not refuse either.
///
/// # Errors
/// Unless it is about one partition, whose checkpoint and log fit.
pub(super) fn reject(places: Vec<Place>) -> anyhow::Result<Vec<Move>> {
    let [place] = <[Place; 1]>::try_from(places).map_err(|places| {
        anyhow!(
            "--reject is about the next record of one partition, and these are {}: name it with \
             --topic and --partition",
            places.len()
        )
    })?;
    let (Stored::Checkpoint(checkpoint), "ok") = (&place.checkpoint, place.state()) else {
        bail!(
            "{} is not in the middle of its log ({}): there is no next record to reject",
            place.partition,
            place.state()
        );
    };
    let to = checkpoint.next_offset;
    if to >= place.log.stable_end {
        bail!(
            "{} is caught up: there is no next record to reject",
            place.partition
        );
    }
    Ok(vec![Move {
        place,
        to,
        reject_next: true,
    }])
}

/// Where a stuck partition continues: one that is halted where `way` says, any other at the log's
/// start, since after a truncation nobody knows which records are new.
///
/// # Errors
/// Where it is halted, and `way` says nothing.
pub(super) fn resolution(place: &Place, way: HaltResolution) -> anyhow::Result<Resolution> {
    let Some((checkpoint, halt)) = place.halted() else {
        return Ok(Resolution::To(place.log.offsets.start));
    };
    let (partition, from) = (&place.partition, halt.from);
    Ok(match (halt.reason, way) {
        (HaltReason::Rejections, HaltResolution { retry: true, .. }) => Resolution::To(from),
        (HaltReason::Unreadable, HaltResolution { behind: true, .. }) => {
            Resolution::BehindUnreadable(checkpoint.next_offset)
        }
        (_, HaltResolution { retry: true, .. } | HaltResolution { behind: true, .. }) => {
            Resolution::To(checkpoint.next_offset)
        }
        (HaltReason::Rejections, _) => bail!(
            "{partition} is halted: {} records in a row were rejected, from offset {from} on; say \
             --retry to apply them again, or --continue to go on behind them (they are dead \
             letters)",
            checkpoint.rejections.in_a_row
        ),
        (HaltReason::Unreadable, _) => bail!(
            "{partition} is halted: the batch of records at offset {from} cannot be read; say \
             --retry to read it again, or --continue to step over it (its records are lost)"
        ),
    })
}

#[cfg(test)]
pub(in crate::commands) mod tests;

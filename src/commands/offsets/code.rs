//! The code of what keeps a partition from going on, as the service logs it. Pure.

use super::Place;
use crate::telemetry::code::Code;

impl Place {
    /// What the runbook calls its state, where that is one in which it does not go on.
    pub(in crate::commands) fn code(&self) -> Option<Code> {
        Some(match self.state() {
            "unreadable" => Code::CheckpointUnreadable,
            "halted by rejections" => Code::BreakerOpen,
            "halted: unreadable" => Code::BatchUnreadable,
            "held by an open transaction" => Code::OpenTransaction,
            "topic recreated" => Code::TopicRecreated,
            "before the log" => Code::LogExpired,
            "truncated" => Code::LogTruncated,
            "the broker is behind" => Code::BrokerBehind,
            "no checkpoint" => return self.unclaimable(),
            _ => return None,
        })
    }

    /// A group's committed offset that is not in the log is as a checkpoint there.
    fn unclaimable(&self) -> Option<Code> {
        let (committed, log) = (self.log.committed?, &self.log.offsets);
        if committed < log.start {
            return Some(Code::LogExpired);
        }
        (committed > log.end).then_some(Code::LogTruncated)
    }
}

#[cfg(test)]
mod tests {
    use bson::Uuid;

    use super::super::place::tests::{halted, place};
    use super::super::place::{Place, Stored};
    use crate::checkpoint::HaltReason;
    use crate::config::Start;
    use crate::telemetry::code::Code;

    #[test]
    fn whatever_stops_a_partition_has_a_code() {
        let with = |next_offset, change: &dyn Fn(&mut Place)| {
            let mut place = place(next_offset, None);
            change(&mut place);
            place
        };
        let held = with(Some(15), &|place| place.log.stable_end = 15);
        assert_eq!(held.code(), Some(Code::OpenTransaction));
        for (place, code) in [
            (place(Some(15), None), None),
            (place(None, None), None),
            (place(None, Some(12)), None),
            (place(None, Some(9)), Some(Code::LogExpired)),
            (place(None, Some(21)), Some(Code::LogTruncated)),
            (place(Some(9), None), Some(Code::LogExpired)),
            (place(Some(21), None), Some(Code::LogTruncated)),
            (
                with(None, &|place| place.checkpoint = Stored::Unreadable(None)),
                Some(Code::CheckpointUnreadable),
            ),
            (
                with(Some(15), &|place| {
                    place.log.topic_id = Some(Uuid::from_bytes([2; 16]));
                }),
                Some(Code::TopicRecreated),
            ),
            (halted(HaltReason::Rejections), Some(Code::BreakerOpen)),
            (halted(HaltReason::Unreadable), Some(Code::BatchUnreadable)),
        ] {
            assert_eq!(place.code(), code, "{}", place.state());
            let is_stuck = place.is_stuck(Start::Earliest);
            assert_eq!(is_stuck, code.is_some(), "{}", place.state());
        }
    }
}

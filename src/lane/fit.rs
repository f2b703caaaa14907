//! A claimed checkpoint held against its log: it stays, names what it did not name yet, begins a
//! fresh lineage, or stops its partition.

use bson::Uuid;

use super::claim::Unclaimed;
use super::doubt::{CONFIRMED_AFTER, Doubt, Evidence, RESTORED_AFTER};
use super::stopped::{Stop, reasons_of_row};
use crate::checkpoint::{
    Checkpoint, Checkpoints, ClaimError, Halt, HaltReason, PartitionLog, Standing, is_of_the_past,
    standing,
};
use crate::record::Partition;
use crate::record::entity::Reason;
use crate::telemetry::code::Code;

/// Compares a checkpoint, which this claim holds, with the log; gives it as it is then. What only a
/// person can undo is done only once `doubt` confirms it.
pub(super) async fn fit(
    checkpoints: &Checkpoints,
    found: Checkpoint,
    log: &PartitionLog,
    doubt: &mut Doubt,
    tries: u32,
) -> Result<Checkpoint, Unclaimed> {
    let partition = &checkpoints.key().partition;
    let is_past = is_of_the_past(&found, log);
    let fitting = match standing(&found, log) {
        // What a leader of the past did not have counts against that leader alone.
        Standing::Resume | Standing::Adopt if is_past && is_doubted(&found, doubt) => {
            return Err(stale(checkpoints, &found, log, doubt, tries).await);
        }
        Standing::Resume | Standing::Adopt if diverged(&found, doubt) => {
            return Err(truncated(checkpoints, &found, log, tries).await);
        }
        Standing::Resume => found,
        Standing::Adopt => adopt(checkpoints, found, log, tries).await?,
        Standing::Recreated(id) => {
            confirm(partition, doubt, Evidence::Recreated(id), || {
                format!("the topic has the id {id}, which is not that of the checkpoint")
            })?;
            let moved = begin_lineage(checkpoints, &found, log, id, tries).await;
            doubt.clear();
            return moved;
        }
        Standing::Truncated => {
            if !found.truncated {
                confirm(partition, doubt, Evidence::PastTheEnd, || {
                    why(Standing::Truncated, "checkpoint", found.next_offset, log)
                })?;
            }
            return Err(truncated(checkpoints, &found, log, tries).await);
        }
        Standing::Expired => {
            let (standing, offset) = (Standing::Expired, found.next_offset);
            let advice = advice(partition, standing, "checkpoint", offset, log);
            return Err(Unclaimed::Stopped(Stop::new(Code::LogExpired, advice)));
        }
        Standing::Stale => return Err(stale(checkpoints, &found, log, doubt, tries).await),
    };
    if let Some(halt) = halted(checkpoints, &fitting, doubt, tries).await? {
        let reasons = reasons_of_row(checkpoints, &fitting, halt).await;
        return Err(Unclaimed::Stopped(stop_of(
            partition, &fitting, halt, &reasons,
        )));
    }
    if let Some(committed) = log.committed.filter(|to| *to > fitting.next_offset) {
        tracing::warn!(
            code = %Code::CommittedAhead, %partition, committed, next_offset = fitting.next_offset,
            "the group's committed offset is ahead of the checkpoint: one of them was moved by \
             hand, MongoDB was restored from a backup, or another sink ran meanwhile; continuing from \
             the checkpoint, since replaying is safe and skipping loses records (to skip all the \
             same: `workflows-sink offsets reset --topic {} --partition {} --to OFFSET --yes`)",
            partition.topic, partition.number
        );
    }
    Ok(fitting)
}

/// What is said of an answer that is behind.
const STALE: &str = "Kafka knows less of this partition than was applied";

fn warn_of_stale_answer(partition: &Partition, found: &Checkpoint, log: &PartitionLog) {
    tracing::warn!(
        code = %Code::BrokerBehind, %partition,
        applied_under = found.leader_epoch, answered_by = log.leader_epoch,
        topic_id = log.topic_id.map(tracing::field::display),
        "{STALE}: an earlier leader or an earlier topic answers; waiting until another one does. If \
         that is the true one now, because Kafka was restored to an earlier state: `workflows-sink \
         offsets reset --topic {} --partition {} --to earliest --yes`",
        partition.topic, partition.number
    );
}

/// Whether an earlier look found that the log has other records before the checkpoint, or that a
/// leader of the past answers.
fn is_doubted(found: &Checkpoint, doubt: &Doubt) -> bool {
    doubt.holds(Evidence::Stale) || doubt.holds(Evidence::Diverged(found.position()))
}

/// Who answers knows less than the checkpoint does: waits for another answer. Where it is the only
/// one for minutes, Kafka was restored to an earlier state. That is marked before the epochs of its
/// log grow past the checkpoint's, and hide it.
async fn stale(
    checkpoints: &Checkpoints,
    found: &Checkpoint,
    log: &PartitionLog,
    doubt: &mut Doubt,
    tries: u32,
) -> Unclaimed {
    doubt.add(Evidence::Stale);
    if is_of_the_past(found, log) && doubt.has_stood(Evidence::Stale, RESTORED_AFTER) {
        return truncated(checkpoints, found, log, tries).await;
    }
    if !doubt.confirms(Evidence::Stale) {
        return Unclaimed::Doubtful(None);
    }
    if doubt.is_to_be_told() {
        warn_of_stale_answer(&checkpoints.key().partition, found, log);
    }
    Unclaimed::Doubtful(Some(format!("{}: {STALE}", Code::BrokerBehind)))
}

/// Whether it is confirmed that the log has other records before the checkpoint.
fn diverged(found: &Checkpoint, doubt: &Doubt) -> bool {
    doubt.confirms(Evidence::Diverged(found.position()))
}

/// Notes the evidence of this look; [`Unclaimed::Doubtful`] until it counts.
fn confirm(
    partition: &Partition,
    doubt: &mut Doubt,
    evidence: Evidence,
    text: impl Fn() -> String,
) -> Result<(), Unclaimed> {
    let is_new = doubt.is_none();
    doubt.add(evidence);
    if doubt.confirms(evidence) {
        return Ok(());
    }
    if is_new {
        tracing::warn!(
            code = %Code::LogDoubted, %partition,
            "{}; looking again for {CONFIRMED_AFTER:?}, since a broker that is cut off says what \
             was true once", text()
        );
    }
    Err(Unclaimed::Doubtful(None))
}

/// Moves a checkpoint to the start of another topic's log.
async fn begin_lineage(
    checkpoints: &Checkpoints,
    found: &Checkpoint,
    log: &PartitionLog,
    topic_id: Uuid,
    tries: u32,
) -> Result<Checkpoint, Unclaimed> {
    let start = log.position(log.offsets.start);
    let partition = &checkpoints.key().partition;
    let was = found.topic_id.map(tracing::field::display);
    tracing::warn!(
        code = %Code::TopicRecreated, %partition, was, is = %topic_id, next_offset = start.offset,
        "the topic was deleted and recreated: a fresh lineage, from the start of the log"
    );
    let moved = checkpoints.relocate(found, topic_id, start, tries);
    Ok(moved.await?.ok_or(ClaimError::Outrun)?)
}

/// Notes the topic id and the leader epoch that a checkpoint of an earlier release does not name.
async fn adopt(
    checkpoints: &Checkpoints,
    found: Checkpoint,
    log: &PartitionLog,
    tries: u32,
) -> Result<Checkpoint, Unclaimed> {
    let partition = &checkpoints.key().partition;
    if let (None, Some(leader_epoch)) = (found.leader_epoch, log.leader_epoch) {
        tracing::info!(
            %partition, next_offset = found.next_offset, leader_epoch,
            "the checkpoint names no leader epoch: taking the log as it is now for the one that \
             was read"
        );
    }
    let adopted = checkpoints.adopt(&found, log.topic_id, log.leader_epoch, tries);
    Ok(adopted.await?.ok_or(ClaimError::Outrun)?)
}

/// Marks a checkpoint, so that its partition stays stopped when the log grows.
async fn truncated(
    checkpoints: &Checkpoints,
    found: &Checkpoint,
    log: &PartitionLog,
    tries: u32,
) -> Unclaimed {
    if !found.truncated {
        match checkpoints.mark_truncated(found, tries).await {
            Ok(Some(_)) => {}
            Ok(None) => return ClaimError::Outrun.into(),
            Err(error) => return error.into(),
        }
    }
    let (partition, offset) = (&checkpoints.key().partition, found.next_offset);
    let advice = advice(partition, Standing::Truncated, "checkpoint", offset, log);
    Unclaimed::Stopped(Stop::new(Code::LogTruncated, advice))
}

/// What halts the partition, if anything does; a batch that cannot be read does once it is
/// confirmed.
async fn halted(
    checkpoints: &Checkpoints,
    found: &Checkpoint,
    doubt: &mut Doubt,
    tries: u32,
) -> Result<Option<Halt>, Unclaimed> {
    if found.halt.is_some() || !doubt.confirms(Evidence::Unreadable(found.next_offset)) {
        return Ok(found.halt);
    }
    let halt = Halt {
        reason: HaltReason::Unreadable,
        from: found.next_offset,
    };
    let halted = checkpoints.halt(found, halt, tries).await?;
    doubt.clear();
    Ok(halted.ok_or(ClaimError::Outrun)?.halt)
}

/// Why a halted partition has stopped, and how it continues.
fn stop_of(
    partition: &Partition,
    found: &Checkpoint,
    halt: Halt,
    reasons: &[(String, i64)],
) -> Stop {
    let resolve = format!(
        "`workflows-sink offsets resolve --topic {} --partition {}",
        partition.topic, partition.number
    );
    let from = halt.from;
    match halt.reason {
        HaltReason::Rejections => Stop::new(
            Code::BreakerOpen,
            format!(
                "{} records in a row were rejected{}, from offset {from} on, and are dead letters; \
                 look at them with `workflows-sink dead-letters list`, and {}; then {resolve} \
                 --retry --yes` applies them again, or --continue goes on behind them",
                found.rejections.in_a_row,
                listed(reasons),
                mended_by(reasons)
            ),
        ),
        HaltReason::Unreadable => Stop::new(
            Code::BatchUnreadable,
            format!(
                "the batch of records at offset {from} cannot be read: it is damaged, unpacks to \
                 more than 100 MB, or is compressed with what this build lacks; all before it is \
                 applied; {resolve} --continue --yes` steps over it, and --retry reads it again"
            ),
        ),
    }
}

/// Why the records of the row were rejected, most of them first.
fn listed(reasons: &[(String, i64)]) -> String {
    let listed: Vec<String> = (reasons.iter())
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    match listed.is_empty() {
        true => String::new(),
        false => format!(" ({})", listed.join(", ")),
    }
}

/// What has to be done first about a row of rejections.
fn mended_by(reasons: &[(String, i64)]) -> &'static str {
    match reasons.first() {
        Some((reason, _)) if *reason == Reason::WriteError.as_str() => {
            "correct the validator or unique index that refuses them, or what sends them"
        }
        Some((reason, _)) if *reason == Reason::UnknownKind.as_str() => {
            "add their kind to the mapping, or correct what sends them"
        }
        _ => "correct what sends them, or the mapping",
    }
}

/// Why the `what` at `offset` does not fit the log.
fn why(standing: Standing, what: &str, offset: i64, log: &PartitionLog) -> String {
    let (start, end) = (log.offsets.start, log.offsets.end);
    match standing {
        Standing::Expired => format!(
            "its {what} {offset} is before the log's start {start}: records were deleted before \
             they were applied"
        ),
        _ if offset <= end => format!(
            "the log was truncated before its {what} {offset}, and has grown since with other \
             records"
        ),
        _ => format!("its {what} {offset} is past the log's end {end}: the log was truncated"),
    }
}

/// Why the `what` at `offset` does not fit the log, and which command resolves it: for a person.
pub(super) fn advice(
    partition: &Partition,
    standing: Standing,
    what: &str,
    offset: i64,
    log: &PartitionLog,
) -> String {
    format!(
        "{}; look with `workflows-sink offsets show`, then `workflows-sink offsets resolve \
         --topic {} --partition {}` continues from the log's start, once you accept that",
        why(standing, what, offset, log),
        partition.topic,
        partition.number
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Rejections;

    #[test]
    fn a_row_of_rejections_is_told_with_its_reasons_and_what_to_do() {
        let found = Checkpoint {
            next_offset: 23,
            rejections: Rejections {
                in_a_row: 20,
                from: 3,
            },
            ..Checkpoint::default()
        };
        let halt = Halt {
            reason: HaltReason::Rejections,
            from: 3,
        };
        for (reasons, says) in [
            (
                &[("write_error", 19), ("missing_id", 1)][..],
                "(write_error 19, missing_id 1)",
            ),
            (
                &[("write_error", 20)],
                "correct the validator or unique index",
            ),
            (&[("unknown_kind", 20)], "add their kind to the mapping"),
            (&[("missing_id", 20)], "correct what sends them"),
            (&[], "20 records in a row were rejected, from offset 3 on"),
        ] {
            let reasons: Vec<(String, i64)> = (reasons.iter())
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect();
            let stop = stop_of(&Partition::new("t", 7), &found, halt, &reasons);
            assert!(stop.why.contains(says), "{}", stop.why);
            assert!(
                stop.why
                    .contains("offsets resolve --topic t --partition 7 --retry --yes")
            );
        }
    }
}

//! The history of one entity around a fault: what the log leads to, and what was written.

use super::change::{Entity, State};
use super::timeline::Timeline;
use super::walk::{Applied, Segment, short};

/// How many states and how many writes are shown on either side of the fault.
const AROUND: usize = 4;

/// The states that the log leads to around a transaction, and the writes around it.
pub fn of(
    entity: &Entity,
    segments: &[Segment],
    timeline: &Timeline<'_>,
    fault: &Applied,
) -> Vec<String> {
    let stands = timeline.entities.get(entity);
    let stands = stands.map_or(&[][..], Vec::as_slice);
    let mut lines = vec!["the log leads to".to_owned()];
    let offset = |step: usize| timeline.steps[step].record.offset;
    let here = stands.partition_point(|stand| offset(stand.step) < fault.from);
    lines.extend(around(stands, here).iter().map(|stand| {
        let (offset, digest) = (offset(stand.step), digest(stand.state));
        format!("  offset {offset}: {digest} {}", stand.shown)
    }));
    let (mut writes, mut here) = (Vec::new(), 0);
    for applied in segments.iter().flat_map(|segment| &segment.applied) {
        if applied.transaction == fault.transaction {
            here = writes.len();
        }
        for change in applied.writes.iter().filter(|c| c.entity == *entity) {
            let (session, number) = applied.transaction;
            let meant = stands.iter().find(|stand| stand.state == change.state);
            let meant = meant.map_or("no state of the log".to_owned(), |stand| {
                format!("as after offset {}", offset(stand.step))
            });
            writes.push(format!(
                "  {} offsets {}..{} owner {} transaction {}/{number} {} -> {} {meant}",
                applied.at,
                applied.from,
                applied.to,
                short(applied.owner),
                short(Some(session)),
                change.operation,
                digest(change.state),
            ));
        }
    }
    lines.push(format!(
        "what was written (the fault is in offsets {}..{}, transaction {}/{})",
        fault.from,
        fault.to,
        short(Some(fault.transaction.0)),
        fault.transaction.1
    ));
    lines.extend_from_slice(around(&writes, here));
    lines
}

/// A state in a few characters.
pub fn digest(state: State) -> String {
    state.map_or("absent".to_owned(), |state| {
        format!("{:08x}", state & 0xffff_ffff)
    })
}

fn around<T>(items: &[T], here: usize) -> &[T] {
    let from = here.saturating_sub(AROUND);
    &items[from..(here + AROUND + 1).min(items.len()).max(from)]
}

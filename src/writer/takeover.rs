//! From one client to the next: a lane switches to the client in use between two attempts.
//!
//! This is a claim on the lane's own claim. In one step, the checkpoint gets another owner and the
//! new server session. The step waits for a transaction of the old session, or kills it. After it,
//! nothing that was sent on the old client can commit any more, and where the checkpoint stands
//! says what became of it.

use std::sync::Arc;

use bson::Uuid;
use mongodb::ClientSession;

use super::attempt::Attempted;
use super::progress::BatchProgress;
use super::{Attempts, Group, Sent, Session, Unwritten, Writer, cause_of, sessions_of};
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoint, Checkpoints, ClaimError, Fence};
use crate::database::Current;
use crate::record::fold::Plan;

/// A takeover that does not count yet. It is kept when it fails, so that an attempt that the server
/// runs late does what the next one does.
pub(super) struct Takeover {
    owner: Uuid,
    current: Current,
    session: ClientSession,
    group: Option<Arc<Group>>,
    checkpoints: Checkpoints,
}

impl Writer {
    /// Switches to the client in use, retrying without limit what is transient. If an unanswered
    /// commit landed, it is the attempt's: none of the others can land any more.
    pub(super) async fn take_over(
        &mut self,
        plan: &Plan<'_>,
        progress: &mut BatchProgress<'_>,
        attempts: &mut impl Attempts,
    ) -> Result<Attempted, Unwritten> {
        // Not the batch's: with many tries a claim waits long before it kills what holds the
        // checkpoint.
        let mut backoff = Backoff::new();
        loop {
            let error = match self.try_take_over(backoff.tries()).await {
                Ok(Some(found)) => {
                    if let Some(landed) = progress.unanswered.take(found.next_offset) {
                        return Ok(Attempted::Committed(landed));
                    }
                    if found.next_offset != plan.offsets.start {
                        return Err(Unwritten::Fenced(Fence::Moved));
                    }
                    progress.unanswered.forget_all();
                    return Ok(Attempted::ClientChanged);
                }
                Ok(None) => return Err(Unwritten::Fenced(Fence::NotMine)),
                Err(ClaimError::Unreadable(_)) => return Err(Unwritten::Fenced(Fence::Moved)),
                Err(error) => error,
            };
            let cause = cause_of(&error);
            let (error, wait) = (error.to_string(), backoff.next_wait());
            self.back_off(cause, &error, Sent::of(plan), wait, progress, attempts)
                .await;
        }
    }

    /// One try; `None` where the checkpoint is no longer ours.
    pub(super) async fn try_take_over(
        &mut self,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let begun = match &self.takeover {
            Some(begun) if !self.connection.is_past(begun.current.generation) => begun,
            _ => {
                let begun = self.begin_takeover().await?;
                self.takeover.insert(begun)
            }
        };
        let owners = [self.claim.owner, begun.owner];
        let sessions = sessions_of(&begun.session, begun.group.as_deref());
        let found = begun
            .checkpoints
            .take_over(owners, begun.owner, sessions, tries)
            .await?;
        let done = self.takeover.take().expect("the takeover was begun above");
        if let Some(found) = &found {
            self.generation = done.current.generation;
            self.session = Session::new(done.current.database, done.session);
            self.group = done.group;
            self.checkpoints = done.checkpoints;
            self.claim.owner = done.owner;
            self.claim.epoch = found.epoch;
        }
        Ok(found)
    }

    /// A takeover to the client in use, with the owner of an earlier one if the client has changed
    /// once more meanwhile.
    async fn begin_takeover(&self) -> Result<Takeover, ClaimError> {
        let current = self.connection.current();
        let session = current.database.client().start_session().await?;
        Ok(Takeover {
            group: self.target.group(&current).await?,
            owner: (self.takeover.as_ref()).map_or_else(Uuid::new, |begun| begun.owner),
            session,
            checkpoints: self.checkpoints.within(current.database.clone()),
            current,
        })
    }
}

//! From one client to the next: a lane goes over to the client in use between two attempts.
//!
//! It is a claim on its own claim. The checkpoint gets another owner and the new server session in one step, which waits
//! for a transaction of the old session or ends it: after it, nothing that was sent on the old client can commit any
//! more, and where the checkpoint stands is what became of it.

use std::sync::Arc;

use bson::Uuid;
use mongodb::ClientSession;

use super::{Group, Sent, Session, Unwritten, Writer, cause_of, sessions_of};
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoint, Checkpoints, ClaimError, Fence};
use crate::database::Current;
use crate::database::errors::Cause;

/// A takeover that does not count yet. Kept over failures, so that a try that the server runs late does what the next
/// one does.
pub(super) struct Takeover {
    owner: Uuid,
    current: Current,
    session: ClientSession,
    group: Option<Arc<Group>>,
    checkpoints: Checkpoints,
}

impl Writer {
    /// Goes over to the client in use, trying without limit what passes. Of the commits in `sent`, those of this batch
    /// from `from` on whose outcome was not known, it gives the one that landed; none of the others can any more.
    pub(super) async fn take_over(
        &mut self,
        from: i64,
        sent: &mut Vec<Sent>,
        retried: &mut impl FnMut(Cause),
    ) -> Result<Option<Sent>, Unwritten> {
        // Not the batch's: after many tries a claim waits long before it ends what holds the checkpoint.
        let mut backoff = Backoff::new();
        loop {
            match self.try_take_over(backoff.tries()).await {
                Ok(Some(found)) => {
                    let landed = sent
                        .iter()
                        .position(|commit| commit.to == found.next_offset);
                    return match landed {
                        Some(landed) => Ok(Some(sent.swap_remove(landed))),
                        None if found.next_offset == from => {
                            sent.clear();
                            Ok(None)
                        }
                        None => Err(Unwritten::Fenced(Fence::Moved)),
                    };
                }
                Ok(None) => return Err(Unwritten::Fenced(Fence::NotMine)),
                Err(ClaimError::Unreadable(_)) => return Err(Unwritten::Fenced(Fence::Moved)),
                Err(error) => {
                    let cause = cause_of(&error);
                    retried(cause);
                    self.outage.failed(
                        &self.checkpoints.key().partition,
                        cause,
                        &error.to_string(),
                    );
                    backoff.wait().await;
                }
            }
        }
    }

    /// One try; `None` if the checkpoint is no longer ours.
    pub(super) async fn try_take_over(
        &mut self,
        tries: u32,
    ) -> Result<Option<Checkpoint>, ClaimError> {
        let current = match &self.takeover {
            Some(begun) if !self.connection.is_past(begun.current.generation) => None,
            _ => Some(self.begin_takeover().await?),
        };
        let takeover = match (current, self.takeover.take()) {
            (Some(begun), _) | (None, Some(begun)) => self.takeover.insert(begun),
            (None, None) => return Err(ClaimError::Outrun),
        };
        let owners = [self.claim.owner, takeover.owner];
        let sessions = sessions_of(&takeover.session, takeover.group.as_deref());
        let found = takeover
            .checkpoints
            .take_over(owners, takeover.owner, sessions, tries)
            .await?;
        if let (Some(found), Some(done)) = (&found, self.takeover.take()) {
            self.generation = done.current.generation;
            self.session = Session::new(done.current.database, done.session);
            self.group = done.group;
            self.checkpoints = done.checkpoints;
            self.claim.owner = done.owner;
            self.claim.epoch = found.epoch;
        }
        Ok(found)
    }

    /// With the owner of an earlier try, should the client have changed once more in between.
    async fn begin_takeover(&self) -> Result<Takeover, ClaimError> {
        let current = self.connection.current();
        let session = current.database.client().start_session().await?;
        Ok(Takeover {
            group: self.target.group(&current).await?,
            owner: (self.takeover.as_ref()).map_or_else(Uuid::new, |begun| begun.owner),
            session,
            checkpoints: Checkpoints::new(current.database.clone(), self.checkpoints.key().clone()),
            current,
        })
    }
}

//! What the server refuses of a transaction is taken out of it, and the rest goes on.

use bson::{DateTime, Document, doc};
use mongodb::options::WriteConcern;

use super::apply::{Applied, Applier, Chunk};
use super::life::LetterPart;
use super::pass::ReplayPass;
use crate::record::entity::{Reason, Refusal};
use crate::telemetry::version::VERSION;
use crate::writer::dead_letter::{self, COLLECTION};
use crate::writer::replay::as_open;

impl Applier<'_, '_> {
    /// Takes out what the server refuses. Gives how the pass ends, where it must.
    pub(super) async fn take_out(
        &mut self,
        pass: &mut ReplayPass,
        chunk: &mut Chunk,
        sent: Option<(Vec<u8>, i64, usize)>,
        refusal: &Refusal,
    ) -> anyhow::Result<Option<Applied>> {
        let rejected =
            LetterPart::RejectedAgain(format!("{} {}", Reason::WriteError, refusal.code));
        let Some((key, offset, states)) = sent.or_else(|| match &chunk.keys[..] {
            [key] => Some((key.clone(), -1, 1)),
            _ => None,
        }) else {
            // It is some write of a command: each key goes alone.
            self.course.letters_max = 1;
            return Ok(Some(Applied::Again("a command was refused".to_owned())));
        };
        if states > 1 {
            // All of these keys at once, or each would cost another pass.
            let ids = chunk
                .keys
                .iter()
                .map(|key| pass.keys()[key].id().to_owned());
            self.course.one_by_one.extend(ids);
            return Ok(Some(Applied::Again("a fold was refused".to_owned())));
        }
        let life = pass.life(&key);
        let mut refused = Vec::new();
        if offset >= 0 && life.letters().contains_key(&offset) {
            let rejected_at = life.rejected_at(offset);
            if life.take_out(offset, rejected.clone()) {
                refused.push((offset, rejected_at));
            }
        } else {
            let later = format!(
                "MongoDB refuses a later state of its key (code {})",
                refusal.code
            );
            let part = match offset {
                0.. => LetterPart::Refused(later),
                _ => rejected.clone(),
            };
            let of_key = life.letters().iter().filter(|(_, part)| part.counts());
            if offset < 0 {
                refused.extend(of_key.map(|(offset, _)| (*offset, life.rejected_at(*offset))));
            }
            life.refuse(&part);
        }
        for (offset, rejected_at) in refused {
            self.note_refusal(offset, rejected_at, refusal).await?;
        }
        self.count_out(pass, &[key]);
        Ok(None)
    }

    /// Notes with a letter, which stays open, why it is rejected again.
    async fn note_refusal(
        &self,
        offset: i64,
        rejected_at: DateTime,
        refusal: &Refusal,
    ) -> anyhow::Result<()> {
        let letters = self.replay.database.collection::<Document>(COLLECTION);
        let set = doc! {
            "state": dead_letter::OPEN,
            "reason": Reason::WriteError.as_str(),
            "error": dead_letter::error(refusal),
            "rejected_at": DateTime::now(),
            "service_version": VERSION,
        };
        let query = as_open(&self.replay.place.letter_id(offset), rejected_at);
        let update = letters.update_one(query, doc! { "$set": set });
        update.write_concern(WriteConcern::majority()).await?;
        Ok(())
    }
}

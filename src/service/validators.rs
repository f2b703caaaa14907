//! Notices validators and unique indexes that are added to a collection, or dropped, while the
//! service runs: from then on its states are judged one by one, or folded.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::database::{self, Connection};
use crate::writer::Target;

/// How often it is looked: one question for the validators, and one a collection for its indexes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Follows them forever.
pub(super) async fn follow(connection: Connection, target: Arc<Target>) {
    loop {
        sleep(LOOK_EVERY).await;
        let database = connection.current().database;
        let found = match database::unfoldable_now(&database).await {
            Ok(found) => found,
            Err(why) => {
                tracing::debug!("the collections were not looked at: {why}");
                continue;
            }
        };
        let changed = target.unfoldable.set(target.mapping.named(&found));
        if changed {
            let mut collections: Vec<String> = found.into_iter().collect();
            collections.sort();
            tracing::info!(
                ?collections,
                "validators or unique indexes have changed: the states of these collections are \
                 written one by one"
            );
        }
    }
}

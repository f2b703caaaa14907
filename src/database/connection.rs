//! The client in use. A client's credentials cannot change, so another password needs another
//! client.

use std::time::Duration;

use mongodb::Database;
use tokio::sync::watch;

/// How long what is under way on a client may take once another client is in use. Where a login was
/// refused, the driver takes the server for unavailable and waits for it.
const GRACE: Duration = Duration::from_secs(1);

/// The database on the client in use.
#[derive(Clone, Debug)]
pub struct Current {
    /// Counts the clients: whoever holds one of another generation switches to this one.
    pub generation: u64,
    /// The database; its client lives as long as somebody holds it.
    pub database: Database,
}

/// Says which client is in use.
#[derive(Clone, Debug)]
pub struct Connection(watch::Receiver<Current>);

/// Replaces the client in use.
#[derive(Debug)]
pub struct Swap(watch::Sender<Current>);

impl Connection {
    /// A connection whose first client is that of `database`, and what replaces it.
    pub fn new(database: Database) -> (Connection, Swap) {
        let generation = 0;
        let (sender, receiver) = watch::channel(Current {
            generation,
            database,
        });
        (Connection(receiver), Swap(sender))
    }

    /// The client in use.
    pub fn current(&self) -> Current {
        self.0.borrow().clone()
    }

    /// Whether the client of this generation is no longer the one in use.
    pub fn is_past(&self, generation: u64) -> bool {
        self.0.borrow().generation != generation
    }

    /// Completes when what is under way on the client of this generation is no longer to be waited
    /// for.
    pub async fn expired(&self, generation: u64) {
        let mut current = self.0.clone();
        let swapped = current.wait_for(|current| current.generation != generation);
        // Without its `Swap`, the client in use stays.
        if swapped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    }
}

impl Swap {
    /// Puts the client of `database` in use.
    pub fn to(&self, database: Database) {
        self.0.send_modify(|current| {
            current.generation += 1;
            current.database = database;
        });
    }
}

//! The client in use. A client's credentials cannot change, so a changed password means another client.

use std::time::Duration;

use mongodb::Database;
use tokio::sync::watch;

/// How long what is under way on a client may go on once another one is in use. The driver takes a server for away, and
/// waits for it, where a login was refused.
const GRACE: Duration = Duration::from_secs(1);

/// The database by way of the client in use.
#[derive(Clone, Debug)]
pub struct Current {
    /// Counts the clients; who holds another generation's goes over to this one.
    pub generation: u64,
    /// Lives as long as somebody holds it.
    pub database: Database,
}

/// Where to look for the client in use.
#[derive(Clone, Debug)]
pub struct Connection(watch::Receiver<Current>);

/// Puts another client in the place of the one in use.
#[derive(Debug)]
pub struct Swap(watch::Sender<Current>);

impl Connection {
    /// `database` as the first, and what puts others in its place.
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

    /// Ends when what is under way on the client of this generation is to be given up.
    pub async fn expired(&self, generation: u64) {
        let mut current = self.0.clone();
        let swapped = current.wait_for(|current| current.generation != generation);
        if swapped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    }
}

impl Swap {
    /// From now on `database` is in use.
    pub fn to(&self, database: Database) {
        self.0.send_modify(|current| {
            current.generation += 1;
            current.database = database;
        });
    }
}

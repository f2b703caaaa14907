//! Fail points: what the server itself can be made to answer.

use bson::{Document, doc};
use mongodb::Client;
use tokio::sync::{Mutex, MutexGuard};

/// A server has one `failCommand`; whoever wants it waits for it.
static FAIL_COMMAND: Mutex<()> = Mutex::const_new(());

/// `failCommand` of the primary, for one application. Off when [`Faults::off`] says so; a test that
/// fails before leaves it on for an application that no longer is there.
pub struct Faults {
    operator: Client,
    app: String,
    _alone: Option<MutexGuard<'static, ()>>,
}

impl Faults {
    /// Of the replica set that tests share.
    pub async fn shared(operator: &Client, app: &str) -> Faults {
        let alone = FAIL_COMMAND.lock().await;
        Faults {
            _alone: Some(alone),
            ..Faults::own(operator, app)
        }
    }

    /// Of a replica set that the test has for itself.
    pub fn own(operator: &Client, app: &str) -> Faults {
        Faults {
            operator: operator.clone(),
            app: app.to_owned(),
            _alone: None,
        }
    }

    /// Fails `commands` by `mode`, which says which of them: `{times: n}`, `{skip: n}`,
    /// `"alwaysOn"`. Says how often any has failed so far.
    pub async fn on(&self, mode: impl Into<bson::Bson>, commands: &[&str], what: Document) -> i64 {
        let mut data = doc! { "failCommands": commands, "appName": &self.app };
        data.extend(what);
        let on = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
        let count = self.ask(on).await;
        count
            .get_i64("count")
            .or(count.get_i32("count").map(i64::from))
            .unwrap()
    }

    /// Waits until one more has failed, or is blocked, than [`Faults::on`] has said.
    pub async fn entered(&self, count: i64) {
        let wait = doc! { "waitForFailPoint": "failCommand", "timesEntered": count + 1, "maxTimeMS": 20_000 };
        self.ask(wait).await;
    }

    pub async fn off(&self) {
        self.ask(doc! { "configureFailPoint": "failCommand", "mode": "off" })
            .await;
    }

    async fn ask(&self, command: Document) -> Document {
        let admin = self.operator.database("admin");
        admin.run_command(command).await.unwrap()
    }
}

//! A server that is made to fail: the one `failCommand` of a server of the test's own.

use bson::{Bson, Document, doc};
use mongodb::{Client, Database};

use crate::look::number;
use crate::wait::DEADLINE;

/// The fail point of one server.
pub struct FailPoint {
    admin: Database,
    entered: i64,
}

impl FailPoint {
    /// Of the server behind `client`. A server has but one: not for shared servers.
    pub fn of(client: &Client) -> FailPoint {
        FailPoint {
            admin: client.database("admin"),
            entered: 0,
        }
    }

    /// Blocks `commands` of the client named `app_name` for `milliseconds` each.
    pub async fn block(&mut self, commands: &[&str], app_name: &str, milliseconds: i32) {
        self.set(
            "alwaysOn",
            doc! { "failCommands": commands, "appName": app_name, "blockConnection": true, "blockTimeMS": milliseconds },
        )
        .await;
    }

    /// Sets mode and data.
    pub async fn set(&mut self, mode: impl Into<Bson>, data: Document) {
        let command =
            doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        let reply = self.admin.run_command(command).await.expect("a fail point");
        self.entered = number(reply.get("count"));
    }

    /// Waits until it has been met `times` since it was set.
    pub async fn met(&self, times: i64) {
        let wait = doc! { "waitForFailPoint": "failCommand", "timesEntered": self.entered + times, "maxTimeMS": DEADLINE.as_millis() as i64 };
        self.admin
            .run_command(wait)
            .await
            .expect("the fail point is met");
    }

    /// Ends it, once no command is blocked by it any more.
    pub async fn off(&mut self) {
        self.set("off", doc! {}).await;
    }
}

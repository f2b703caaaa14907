//! Answers of the server: errors of every kind, and answers that never come.

use std::time::Duration;

use bson::{DateTime, doc};

use super::{BRIEFLY, Nemesis};
use crate::checker::Refusals;

/// BSONObjectTooLarge: it speaks of a document, so the record becomes a dead letter.
const REFUSED_BY_A_FAIL_POINT: i32 = 10334;

/// Of `error_codes.yml`: what the server calls retriable, what it does not, interruptions, and what
/// speaks of its own state. None of them speaks of a document.
const CODES: [i32; 44] = [
    1, 6, 7, 8, 11, 13, 18, 20, 24, 26, 46, 50, 59, 63, 64, 89, 91, 96, 112, 117, 133, 134, 189,
    202, 225, 239, 244, 246, 251, 256, 262, 263, 290, 358, 365, 384, 9001, 10058, 10107, 11600,
    11602, 13435, 13436, 14031,
];
/// How many of them one fault brings.
const DRAWN: usize = 10;
const BETWEEN: Duration = Duration::from_millis(250);

impl Nemesis<'_> {
    /// These commands fail with `code` until it is healed.
    pub(super) async fn fail_with(&mut self, code: i32, commands: &[&str]) {
        let data = doc! { "failCommands": commands, "errorCode": code };
        self.stage.fail_point("alwaysOn", data).await;
    }

    /// Every update is refused, by a code that speaks of a document.
    pub(super) async fn refuse_documents(&mut self) {
        let from_ms = DateTime::now().timestamp_millis();
        let data = doc! { "failCommands": ["update"], "errorCode": REFUSED_BY_A_FAIL_POINT };
        let met_before = self.stage.fail_point("alwaysOn", data).await;
        self.refusals.push(Refusals {
            code: REFUSED_BY_A_FAIL_POINT,
            from_ms,
            until_ms: i64::MAX,
            commands: met_before as usize,
        });
    }

    /// Updates pass again; the server says how many it has refused.
    pub(super) async fn refuse_no_more(&mut self) {
        let met = self.stage.fail_point("off", doc! {}).await;
        let refusals = self.refusals.last_mut().expect("it was struck");
        refusals.commands = (met as usize).saturating_sub(refusals.commands);
    }

    /// Some codes, one after the other, each twice.
    pub(super) async fn errors_on(&mut self, commands: &[&str]) {
        for _ in 0..DRAWN {
            let code = CODES[self.random.below(CODES.len())];
            let data = doc! { "failCommands": commands, "errorCode": code };
            self.stage.fail_point(doc! { "times": 2 }, data).await;
            tokio::time::sleep(BETWEEN).await;
        }
        self.stage.fail_point("off", doc! {}).await;
    }

    /// The command is done, and answers that a majority does not have it.
    pub(super) async fn write_concern_errors(&mut self) {
        for code in [64, 91, 189, 11600, 79, 100] {
            let error = doc! { "code": code, "errmsg": "a test's" };
            let data = doc! { "failCommands": ["commitTransaction", "findAndModify"], "writeConcernError": error };
            self.stage.fail_point(doc! { "times": 2 }, data).await;
            tokio::time::sleep(BETWEEN).await;
        }
        self.stage.fail_point("off", doc! {}).await;
    }

    /// Connections end before a commit is done, and in the middle of answers after it was; and for
    /// a while no commit that is done ever arrives.
    pub(super) async fn lose_commit_answers(&mut self) {
        for _ in 0..4 {
            let data = doc! { "failCommands": ["commitTransaction"], "closeConnection": true };
            self.stage.fail_point(doc! { "times": 2 }, data).await;
            tokio::time::sleep(BETWEEN).await;
            let primary = self.stage.primary().await;
            let bytes = self.random.below(600) as u64;
            let proxy = self.stage.mongo.proxy(primary).expect("a proxy").clone();
            proxy.cut_after(bytes).expect("cut");
            tokio::time::sleep(BETWEEN).await;
            proxy.heal().expect("healed");
        }
        let error = doc! { "code": 64, "errmsg": "a test's" };
        let data = doc! { "failCommands": ["commitTransaction"], "writeConcernError": error };
        self.stage.fail_point("alwaysOn", data).await;
        tokio::time::sleep(BRIEFLY).await;
        self.stage.fail_point("off", doc! {}).await;
    }
}

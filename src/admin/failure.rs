//! Why something did not come about, as far as it decides what to do next. No message holds a secret.

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may pass by itself: try again.
    #[error("{0}")]
    Away(String),
    /// Somebody else changed the Secret meanwhile: look again.
    #[error("the Secret was changed by somebody else meanwhile")]
    Moved,
    /// For as long as nobody changes what the line names.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// The same failure, with what was being done before it.
    pub fn while_doing(self, what: &str) -> Failure {
        match self {
            Failure::Away(why) => Failure::Away(format!("{what}: {why}")),
            Failure::Wrong(why) => Failure::Wrong(format!("{what}: {why}")),
            Failure::Moved => Failure::Moved,
        }
    }

    /// For metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Failure::Away(_) => "away",
            Failure::Moved => "moved",
            Failure::Wrong(_) => "wrong",
        }
    }
}

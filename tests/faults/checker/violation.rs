//! What did not hold, and the little that a person must see to believe it.

use std::fmt;

/// What a run is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The evidence is whole and fits together; nothing can be judged without.
    Evidence,
    /// A record that the broker acknowledged is in the log.
    Acknowledged,
    /// The documents in the end are exactly those of the log.
    Documents,
    /// The dead letters in the end are exactly those of the log.
    DeadLetters,
    /// The checkpoints in the end stand at the ends of the log.
    Checkpoints,
    /// An entity goes through its states in the order of the log, and through no other.
    Order,
    /// A committed transaction moves one checkpoint on, and writes what the records that it covers
    /// come to.
    Transaction,
    /// The one who writes is the one who claimed the partition.
    Owner,
    /// Nothing is written outside of a transaction, but claims.
    Outside,
    /// The group's committed offset is never ahead of the checkpoint.
    Committed,
    /// A worker's memory stays within its budget.
    Memory,
    /// No worker ends by itself.
    Exit,
    /// Records are applied again within a bound.
    Recovery,
    /// Partitions that a fault leaves healthy go on while it lasts.
    Progress,
    /// A worker says that it is alive while it is.
    Alive,
    /// Once all is well, the workers show that.
    Ready,
    /// What the workers count is what was applied.
    Counted,
}

/// What did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What it is against.
    pub rule: Rule,
    /// The partition, where it is about one.
    pub partition: Option<i32>,
    /// The offset, where it is about one.
    pub offset: Option<i64>,
    /// The entity, as `collection/id`, where it is about one.
    pub entity: Option<String>,
    /// What does not hold, in a line.
    pub message: String,
    /// The history around it, a line each.
    pub history: Vec<String>,
}

impl Violation {
    /// A violation of `rule`.
    pub fn new(rule: Rule, message: impl Into<String>) -> Violation {
        Violation {
            rule,
            partition: None,
            offset: None,
            entity: None,
            message: message.into(),
            history: Vec::new(),
        }
    }

    /// Says where in the log.
    pub fn at(mut self, partition: i32, offset: impl Into<Option<i64>>) -> Violation {
        self.partition = Some(partition);
        self.offset = offset.into();
        self
    }

    /// Says of which entity.
    pub fn of(mut self, entity: impl Into<String>) -> Violation {
        self.entity = Some(entity.into());
        self
    }

    /// Shows the history around it.
    pub fn showing(mut self, history: Vec<String>) -> Violation {
        self.history = history;
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if let Some(partition) = self.partition {
            write!(f, " partition {partition}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        if let Some(entity) = &self.entity {
            write!(f, " {entity}")?;
        }
        write!(f, ": {}", self.message)?;
        for line in &self.history {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

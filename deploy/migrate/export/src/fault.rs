//! Where an entity was found, and what may be wrong with it.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::{EMBEDDED_DEPTH_MAX, ENTITY_BYTES_MAX};

/// Where an entity or a fault was found. It is written as `FILE record 17`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file's path as it was given or found, or `-` for standard input.
    pub file: Arc<str>,
    /// From 1 within the file. In JSON it is the number of the line. In a log it counts entities
    /// and faults: a damaged region counts as one record, however many it held.
    pub record: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} record {}", self.file, self.record)
    }
}

/// Why there is no entity at a place. Each message says what is wrong and what to do, and none
/// holds a value of the entity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file could not be read further. It is the last of its file.
    #[error("the file cannot be read further: {0}; see to the file and start again")]
    Io(#[from] io::Error),

    /// A part of a log that cannot be read. What it held is lost; what comes after it is read.
    #[error(
        "bytes {from} to {to} are damaged: {why}; copy the file anew from the bucket and compare \
         its checksum"
    )]
    Damaged {
        /// Offset of the first byte that was not read, in bytes (of the inflated file).
        from: u64,
        /// Offset of the first byte that was read again, or the file's end.
        to: u64,
        /// What was found at its beginning.
        why: &'static str,
    },

    /// A log that ends within a record. It is the last of its file.
    #[error(
        "the file ends within the record at byte {from}; copy it anew from the bucket and compare \
         its size"
    )]
    Truncated {
        /// Offset of the record that is not whole, in bytes (of the inflated file).
        from: u64,
    },

    /// A record or line that is longer than [`ENTITY_BYTES_MAX`].
    #[error(
        "longer than {ENTITY_BYTES_MAX} bytes, which no entity of Datastore is; look whether the \
         file is an export, or has one entity a line"
    )]
    Oversize,

    /// A record that is no `EntityProto`, or JSON of another shape than an entity's.
    #[error("not an entity: {why}; look whether the file is an export of entities")]
    NotEntity {
        /// What was found.
        why: String,
    },

    /// A line that is not JSON.
    #[error("not JSON at column {column} of the line; write one whole object a line")]
    NotJson {
        /// From 1, in bytes; 0 if the line is not UTF-8.
        column: usize,
    },

    /// A key with a step that lacks its kind or its id, or without any step.
    #[error(
        "{at} is incomplete: each step needs a kind and an id or a name; such an entity was never \
         stored, so look at what wrote the file"
    )]
    KeyIncomplete {
        /// `its key`, or the property.
        at: String,
    },

    /// A key of another database than the default one, which a path does not name.
    #[error(
        "{at} is of the database {database}, and paths have none: only the default one's entities are \
         moved"
    )]
    OtherDatabase {
        /// `its key`, or the property.
        at: String,
        /// The database's name.
        database: String,
    },

    /// A value that cannot be read.
    #[error("property {property}: {why}; correct the entity at its source and export it again")]
    Value {
        /// The property's name; that of an embedded entity after its outer one and a dot.
        property: String,
        /// What is wrong.
        why: String,
    },

    /// Text that is not UTF-8.
    #[error(
        "{property} holds text that is not UTF-8; store it as a blob at its source and export it \
         again"
    )]
    NotUtf8 {
        /// The property's name, or what else holds the text.
        property: String,
    },

    /// An entity within an entity, and so on, for more than [`EMBEDDED_DEPTH_MAX`] times.
    #[error(
        "property {property}: more than {EMBEDDED_DEPTH_MAX} entities or lists within each other; \
         flatten the entity at its source and export it again"
    )]
    Depth {
        /// The property's name.
        property: String,
    },
}

/// What faults call the entity's own key.
pub(crate) const OWN_KEY: &str = "its key";

/// What the default database is called where it is named at all.
const DEFAULT_DATABASE: &str = "(default)";

/// Characters of a property's name that a fault has.
const NAME_CHARS_MAX: usize = 100;

impl Fault {
    /// Whether what stands there is an entity of another database, which is none of these; not one of
    /// these that holds a key of another database.
    pub fn is_of_other_database(&self) -> bool {
        matches!(self, Fault::OtherDatabase { at, .. } if at == OWN_KEY)
    }

    pub(crate) fn value(property: &str, why: &str) -> Fault {
        Fault::Value {
            property: short(property),
            why: why.into(),
        }
    }

    pub(crate) fn depth(property: &str) -> Fault {
        Fault::Depth {
            property: short(property),
        }
    }

    pub(crate) fn not_utf8(at: &str) -> Fault {
        Fault::NotUtf8 {
            property: short(at),
        }
    }

    /// Fails for a key of another database than the default one. `at` is what a fault calls it.
    pub(crate) fn unless_default(database: &str, at: &str) -> Result<(), Fault> {
        match database {
            "" | DEFAULT_DATABASE => Ok(()),
            other => Err(Fault::OtherDatabase {
                at: at.to_owned(),
                database: short(other),
            }),
        }
    }

    /// What a fault of a key calls the one that a property holds.
    pub(crate) fn property(name: &str) -> String {
        format!("the key in property {}", short(name))
    }

    /// The same fault, of a property of an embedded entity.
    pub(crate) fn within(mut self, outer: &str) -> Fault {
        if let Fault::Value { property, .. }
        | Fault::Depth { property }
        | Fault::NotUtf8 { property } = &mut self
        {
            *property = format!("{}.{property}", short(outer));
        }
        if let Fault::KeyIncomplete { at } | Fault::OtherDatabase { at, .. } = &mut self {
            *at = format!("{at} of the entity in {}", short(outer));
        }
        self
    }
}

/// A name as a message may hold it: short, and in one line.
fn short(name: &str) -> String {
    let chars = name.chars().take(NAME_CHARS_MAX);
    chars.flat_map(char::escape_debug).collect()
}

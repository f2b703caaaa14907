//! Why an entity is not moved, in words that say what to do.

/// Why an entity cannot be moved. No text holds a value of the entity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The mapping lacks its kind.
    #[error("the mapping has no kind {0}: add it, or say with `left_out` why it stays")]
    UnmappedKind(String),
    /// The remap file lacks its key.
    #[error("{0} has no new id: run `datastore-migrate ids` over this export first")]
    NoId(String),
    /// The remap file lacks its key, and `ids` gives it none.
    #[error(
        "it lies below an entity of a kind that gets no id, whose name no remap file may hold: add that \
         kind to the mapping"
    )]
    BelowNoId,
    /// It has no ancestor of the mapping's kind for accounts.
    #[error(
        "{0} has no account above it, whose id `{1}` would hold: leave `account` out of the mapping"
    )]
    NoAccount(String, String),
    /// A reference to what no export held.
    #[error(
        "{0} refers to {1}, which has no new id: look for it in the export, or say in the mapping what \
         becomes of it, with `dangling`"
    )]
    Dangling(String, String),
    /// A reference that is an empty text.
    #[error(
        "{0} is an empty text and names nothing: say `dangling = \"null\"` or \"keep\" of it in the \
         mapping, or correct it at its source"
    )]
    EmptyReference(String),
    /// A reference to another namespace or project.
    #[error(
        "{0} refers to another namespace or project, and a path does not say so: correct it, or drop it"
    )]
    Elsewhere(String),
    /// A reference to what lies below an API key, whose name may be its secret.
    #[error("{0} refers to what lies below an API key, which gets no id: drop it")]
    BelowApiKey(String),
    /// A reference in another form than the mapping says.
    #[error("{0} is not in the form {1} that the mapping says: correct its `form`")]
    OtherForm(String, String),
    /// A bare number that several accounts have.
    #[error(
        "{0} is a number that several accounts have: give its form as \"account/id\" or \"key\""
    )]
    Ambiguous(String),
    /// A key that the mapping does not call a reference.
    #[error("{0} holds a key and is no reference by the mapping: declare it, or drop it")]
    UndeclaredKey(String),
    /// A number that JSON lacks.
    #[error("{0} is not a number that JSON has: set `not_a_number = \"null\"`, or drop it")]
    NotANumber(String),
    /// A time outside the years that text can hold.
    #[error("{0} is a time outside the years 1 to 9999: correct it at its source, or drop it")]
    TimeOutOfRange(String),
    /// The property with the id holds none.
    #[error("{0} holds no id of 32 hex digits: `id_from` in the mapping says that it does")]
    IdFrom(String),
    /// The property with the id holds another one than the remap file.
    #[error(
        "{0} holds another id than the remap file has, {1}: two entities have the same, or it was changed"
    )]
    OtherId(String, String),
    /// Two properties get the same name.
    #[error("two properties become `{0}`: rename or drop one")]
    TwiceNamed(String),
    /// The service would not take it.
    #[error("the service would reject it: {0}")]
    ByContract(String),
}

//! Which entity a property names, by what the mapping says of it. Pure.

use datastore_export::{Id, Key, Step, Value};

use crate::convert::{Ids, account_of, path_of};
use crate::id::{Fingerprint, NewId};
use crate::mapping::{Dangling, Form, Mapping, Reference};
use crate::rejection::Rejection;

/// Datastore's bound on a name.
const ID_BYTES_MAX: usize = 1_500;

/// What becomes of a reference that names nothing.
pub(crate) const NULL: &str = "names nothing: null";
pub(crate) const KEPT: &str = "names nothing: kept";

/// What a report calls an entity whose path may hold the name of an API key.
const UNTOLD: &str = "what lies below an entity of a kind that gets no id";

/// A reference, whose target has an id. Whether the target is moved is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refers {
    /// The property, by old kind and path.
    pub at: String,
    /// The target's old path.
    pub path: String,
    /// The target's old kind.
    pub kind: String,
    /// The target's new id.
    pub id: NewId,
}

/// What a property names.
pub(crate) enum Named {
    /// Nothing: it is null.
    Nothing,
    /// Nothing, and it becomes null.
    Null,
    /// Nothing, and it stays as it is.
    AsItIs,
    /// An entity that has an id.
    Entity(Refers),
}

/// What the properties of one entity name.
pub(crate) struct Resolver<'a, I> {
    /// The entity's own key.
    pub(crate) own: &'a Key,
    pub(crate) mapping: &'a Mapping,
    pub(crate) ids: &'a I,
}

impl<I: Ids> Resolver<'_, I> {
    /// What a value names, in the form that the mapping says. `at` is the property's name in a report.
    pub(crate) fn resolve(
        &self,
        at: String,
        value: &Value,
        reference: &Reference,
    ) -> Result<Named, Rejection> {
        use Rejection::{Dangling as ToNothing, EmptyReference};
        match (self.entity(at, value, reference), reference.dangling) {
            (Ok(None), _) => Ok(Named::Nothing),
            (Ok(Some(refers)), _) => Ok(Named::Entity(refers)),
            (Err(ToNothing(..) | EmptyReference(_)), Dangling::Null) => Ok(Named::Null),
            (Err(ToNothing(..) | EmptyReference(_)), Dangling::Keep) => Ok(Named::AsItIs),
            (Err(rejection), _) => Err(rejection),
        }
    }

    /// The entity that a value names; none for null.
    fn entity(
        &self,
        at: String,
        value: &Value,
        reference: &Reference,
    ) -> Result<Option<Refers>, Rejection> {
        let key = match (reference.form, value) {
            (_, Value::Null) => return Ok(None),
            (_, Value::Text(text)) if text.is_empty() => {
                return Err(Rejection::EmptyReference(at));
            }
            (Form::Key, Value::Key(key)) if key.kind() == reference.kind => {
                if is_elsewhere(key, self.own) {
                    return Err(Rejection::Elsewhere(at));
                }
                if self.mapping.has_api_key(key) {
                    return Err(Rejection::BelowApiKey(at));
                }
                key.clone()
            }
            (Form::Integer, Value::Integer(number)) => self.by_number(&at, *number, reference)?,
            (Form::AccountAndId, Value::Text(text)) => match account_and_id(text) {
                Some((account, id)) => self.below(account, id, reference),
                None => return Err(other_form(at, reference)),
            },
            _ => return Err(other_form(at, reference)),
        };
        let path = path_of(&key);
        match self.ids.id(Fingerprint::of(&path)) {
            Some(id) => Ok(Some(Refers {
                at,
                path,
                kind: reference.kind.clone(),
                id,
            })),
            None if self.mapping.gives_ids_on(&key) => Err(Rejection::Dangling(at, path)),
            None => Err(Rejection::Dangling(at, UNTOLD.to_owned())),
        }
    }

    /// The one entity with this number in the entity's own account, or else in a shared one. An account
    /// lies in none.
    fn by_number(&self, at: &str, number: i64, reference: &Reference) -> Result<Key, Rejection> {
        let number = Id::Number(number);
        if reference.kind == self.mapping.accounts.kind {
            return Ok(self.with_path(vec![step(&reference.kind, number)]));
        }
        let own = account_of(self.own, self.mapping).map(|step| step.id);
        let shared = self.mapping.shared_accounts.iter().map(|id| id_in_text(id));
        let keys = own.into_iter().chain(shared);
        let keys = keys.map(|account| self.below(account, number.clone(), reference));
        let keys: Vec<Key> = keys.collect();
        let has_id = |key: &&Key| self.ids.id(Fingerprint::of(path_of(key))).is_some();
        let mut found: Vec<&Key> = keys.iter().filter(has_id).collect();
        found.dedup();
        match (found.as_slice(), keys.first()) {
            ([key], _) => Ok((*key).clone()),
            ([], first) => Err(Rejection::Dangling(
                at.to_owned(),
                first.map(path_of).unwrap_or_default(),
            )),
            _ => Err(Rejection::Ambiguous(at.to_owned())),
        }
    }

    fn below(&self, account: Id, id: Id, reference: &Reference) -> Key {
        self.with_path(vec![
            step(&self.mapping.account_kind, account),
            step(&reference.kind, id),
        ])
    }

    fn with_path(&self, path: Vec<Step>) -> Key {
        Key {
            path,
            ..self.own.clone()
        }
    }

    /// Whether a value looks like the id of an old entity.
    pub(crate) fn looks_like_id(&self, value: &Value) -> bool {
        let is_one = |text: &str| self.ids.looks_like_one(Fingerprint::of(text));
        match value {
            Value::Integer(number) => is_one(&number.to_string()),
            Value::Text(text) if text.starts_with("gs://") => {
                let parts: Vec<&str> = text.split('/').collect();
                (parts.windows(2)).any(|pair| is_one(&pair.join("/")))
            }
            Value::Text(text) => is_one(text),
            _ => false,
        }
    }
}

fn step(kind: &str, id: Id) -> Step {
    Step {
        kind: kind.to_owned(),
        id,
    }
}

fn other_form(at: String, reference: &Reference) -> Rejection {
    let form = match reference.form {
        Form::Key => "\"key\"",
        Form::Integer => "\"integer\"",
        Form::AccountAndId => "\"account/id\"",
    };
    Rejection::OtherForm(at, form.to_owned())
}

/// The two ids of `account/id`.
fn account_and_id(text: &str) -> Option<(Id, Id)> {
    let (account, id) = text.split_once('/')?;
    let is_one = |part: &str| (1..=ID_BYTES_MAX).contains(&part.len());
    let are_both = is_one(account) && is_one(id) && !id.contains('/');
    are_both.then(|| (id_in_text(account), id_in_text(id)))
}

/// Whether a key is of another namespace or project than an entity's; not every form names a project.
fn is_elsewhere(key: &Key, own: &Key) -> bool {
    let has_both = !key.project.is_empty() && !own.project.is_empty();
    key.namespace != own.namespace || has_both && key.project != own.project
}

/// An id as `account/id` has it: a number where it is one.
pub(crate) fn id_in_text(text: &str) -> Id {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Id::Number(number),
        _ => Id::Name(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_namespace_or_project_is_of_none_of_these() {
        let own: Key = "Account:7/Evaluation:1".parse().unwrap();
        let (mut namespace, mut project) = (own.clone(), own.clone());
        namespace.namespace = "eu".to_owned();
        project.project = "other".to_owned();
        // A key without a project may be of any.
        assert!(!is_elsewhere(&project, &own) && is_elsewhere(&namespace, &own));
        let mut of_project = own.clone();
        of_project.project = "mine".to_owned();
        assert!(is_elsewhere(&project, &of_project) && !is_elsewhere(&own, &of_project));
    }
}

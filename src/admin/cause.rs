//! Why something failed, told once for all users that it concerns.

use super::list;

/// Stands for the name of a user's own Secret.
const OWN_SECRET: &str = "…";

/// Why something failed for one user. What differs in nothing but the name of the user's own Secret
/// is the same cause.
#[derive(Clone, Debug)]
pub struct Cause {
    why: String,
    /// The same without the name of the user's Secret.
    alike: String,
}

impl Cause {
    /// For the user whose Secret has the name `secret`.
    pub fn new(secret: &str, why: impl ToString) -> Cause {
        let why = why.to_string();
        let alike = why.replace(secret, OWN_SECRET);
        Cause { why, alike }
    }

    /// One that names no Secret of a user's own.
    pub fn everybodys(why: &str) -> Cause {
        Cause {
            why: why.to_owned(),
            alike: why.to_owned(),
        }
    }

    /// Whether both say the same.
    pub fn is_same(&self, other: &Cause) -> bool {
        self.why == other.why || self.alike == other.alike
    }

    /// The same, for users of several Secrets where `other` is the cause of another one.
    fn joined(&self, other: &Cause) -> Cause {
        let why = if self.why == other.why {
            &self.why
        } else {
            &self.alike
        };
        Cause {
            why: why.clone(),
            alike: self.alike.clone(),
        }
    }
}

/// Each cause once, in the order in which they come, with the names of its users.
pub fn told_once<'a>(causes: impl IntoIterator<Item = (&'a str, Cause)>) -> Vec<(String, String)> {
    let mut told: Vec<(Vec<&str>, Cause)> = Vec::new();
    for (user, cause) in causes {
        match told.iter_mut().find(|(_, known)| known.is_same(&cause)) {
            Some((users, known)) => {
                users.push(user);
                *known = known.joined(&cause);
            }
            None => told.push((vec![user], cause)),
        }
    }
    let named = told.into_iter();
    named
        .map(|(users, cause)| (list(users), cause.why))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_with_all_of_its_users() {
        let away = "MongoDB: no server";
        let forbidden = |secret: &str| format!("secrets {secret:?} is forbidden");
        for (causes, told) in [
            (vec![], vec![]),
            (vec![("a", "a-s", away.to_owned())], vec![("a", away)]),
            (
                vec![
                    ("a", "a-s", away.to_owned()),
                    ("b", "b-s", forbidden("b-s")),
                    ("c", "c-s", away.to_owned()),
                ],
                vec![("a, c", away), ("b", "secrets \"b-s\" is forbidden")],
            ),
            // each names its own Secret
            (
                vec![
                    ("a", "a-s", forbidden("a-s")),
                    ("b", "b-s", forbidden("b-s")),
                    ("c", "c-s", forbidden("c-s")),
                ],
                vec![("a, b, c", "secrets \"…\" is forbidden")],
            ),
            // a Secret's name that stands in a cause that is everybody's
            (
                vec![
                    ("a", "MongoDB", away.to_owned()),
                    ("b", "b-s", away.to_owned()),
                ],
                vec![("a, b", away)],
            ),
        ] {
            let causes = causes.into_iter();
            let found =
                told_once(causes.map(|(user, secret, why)| (user, Cause::new(secret, why))));
            let told: Vec<(String, String)> = told
                .into_iter()
                .map(|(users, why)| (users.to_owned(), why.to_owned()))
                .collect();
            assert_eq!(found, told);
        }
    }
}

use proptest::prelude::*;

use super::*;

fn step(kind: &str, id: Id) -> Step {
    Step {
        kind: kind.into(),
        id,
    }
}

fn name(name: &str) -> Id {
    Id::Name(name.into())
}

fn key(path: Vec<Step>) -> Key {
    Key {
        project: String::new(),
        namespace: String::new(),
        path,
    }
}

#[test]
fn a_key_is_written_as_documents_write_it() {
    let table = [
        (
            vec![
                step("Account", name("public")),
                step("Evaluation", Id::Number(5_634_161_670_881_280)),
            ],
            "Account:public/Evaluation:5634161670881280",
        ),
        (vec![step("K", name("a/b:c%d"))], "K:a%2Fb%3Ac%25d"),
        (vec![step("K", name("123"))], "K:%3123"),
        (vec![step("K", name("-1"))], "K:%2D1"),
        (vec![step("K", Id::Number(-1))], "K:-1"),
        (vec![step("K", name("12a"))], "K:12a"),
        (vec![step("a:b/c", name("é\n"))], "a%3Ab%2Fc:é%0A"),
    ];
    for (path, text) in table {
        let key = key(path);
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
    }
}

#[test]
fn what_is_no_key_is_refused() {
    let table = [
        ("", KeyError::Step),
        ("Account", KeyError::Step),
        ("Account:a/", KeyError::Step),
        ("Account:a:b", KeyError::Step),
        ("Account:", KeyError::Empty),
        (":a", KeyError::Empty),
        ("K:007", KeyError::Number),
        ("K:9223372036854775808", KeyError::Number),
        ("K:-0", KeyError::Number),
        ("K:a%", KeyError::Escape),
        ("K:a%4", KeyError::Escape),
        ("K:a%+1", KeyError::Escape),
        ("K:%ff", KeyError::Escape),
    ];
    for (text, why) in table {
        assert_eq!(text.parse::<Key>(), Err(why), "{text}");
    }
}

#[test]
fn a_parent_is_the_key_without_its_last_step() {
    let key: Key = "A:1/B:2/C:x".parse().unwrap();
    assert_eq!(key.kind(), "C");
    assert_eq!(key.id(), Some(&name("x")));
    let parent = key.parent().unwrap();
    assert_eq!(parent.to_string(), "A:1/B:2");
    assert_eq!(parent.parent().unwrap().parent(), None);
}

proptest! {
    #[test]
    fn the_text_of_any_key_parses_back(
        path in prop::collection::vec(
            ("\\PC{1,9}|[/:%0-9]{1,4}", prop_oneof![
                any::<i64>().prop_map(Id::Number),
                "\\PC{1,9}|-?[0-9]{1,20}|[/:%\\x00-\\x1f]{1,4}".prop_map(Id::Name),
            ]),
            1..5,
        )
    ) {
        let steps = path.into_iter().map(|(kind, id)| Step { kind, id });
        let key = key(steps.collect());
        prop_assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn any_text_that_is_a_key_names_one_alone(text in "([A-z%0-9]{1,3}:[A-z%0-9-]{1,3}/?)+") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}

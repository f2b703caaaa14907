//! Records that are trouble by themselves.

use local_stack::Message;
use local_stack::random::Random;

/// Nearly as much as a document holds, with room for what a change stream puts around it.
const LARGE_BYTES: usize = 16_000_000;

fn id(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.bits(), random.bits())
}

/// One of each kind that the contract rejects or skips.
pub fn poison(random: &mut Random) -> Vec<Message> {
    let id = id(random);
    let keyed = |value: &[u8]| Message::new(id.clone(), value);
    let with =
        |fields: &str| keyed(format!(r#"{{"id":"{id}","kind":"Dataset",{fields}}}"#).as_bytes());
    let whole = format!(r#"{{"id":"{id}","kind":"Dataset"}}"#);
    let null = "0".repeat(32);
    let deep = format!(r#""deep":{}1{}"#, "[".repeat(100), "]".repeat(100));
    // As BSON an array of small integers is six times its JSON.
    let large = format!(r#""large":[{}0]"#, "0,".repeat(1_400_000));
    let mut headers = with(r#""n":1e400"#);
    headers.headers = vec![
        ("h".to_owned(), None),
        ("h".to_owned(), Some(b"\xff".to_vec())),
    ];
    vec![
        keyed(b"\xff\xfe"),
        keyed(b""),
        keyed(format!("{whole} {whole}").as_bytes()),
        with(r#""x":NaN"#),
        Message {
            key: None,
            ..keyed(whole.as_bytes())
        },
        Message::new(*b"\xff", whole.clone()),
        keyed(br#"{"kind":"Dataset"}"#),
        Message::new("another", whole.clone()),
        keyed(format!(r#"{{"id":"{id}","kind":7}}"#).as_bytes()),
        keyed(format!(r#"{{"id":"{id}","kind":"Nonsense"}}"#).as_bytes()),
        with(r#""labels":[]"#),
        with(r#""$set":{"a":1}"#),
        with(r#""a":{"b\u0000c":1}"#),
        with(r#""n":9223372036854775808"#),
        with(&deep),
        with(&large),
        headers,
        Message::new(
            null.clone(),
            format!(r#"{{"id":"{null}","kind":"Dataset"}}"#),
        ),
        keyed(whole.as_bytes()),
    ]
}

/// Three of 16 MB, two of them states of one entity.
pub fn large(random: &mut Random) -> Vec<Message> {
    let (one, other) = (id(random), id(random));
    let mut state = |id: &str, revision: u32| {
        let mut text = String::with_capacity(LARGE_BYTES);
        while text.len() < LARGE_BYTES {
            text.push_str(&format!("{:016x}", random.bits()));
        }
        let json =
            format!(r#"{{"id":"{id}","kind":"Report","revision":{revision},"text":"{text}"}}"#);
        Message::new(id, json)
    };
    vec![state(&one, 1), state(&other, 1), state(&one, 2)]
}

/// An entity that is created, deleted, created again and deleted; and tombstones of nothing.
pub fn tombstones(random: &mut Random) -> Vec<Message> {
    let (one, nothing) = (id(random), id(random));
    let state = |revision: u32| {
        let kind = ["Report", "Dataset"][revision as usize % 2];
        Message::new(
            one.clone(),
            format!(r#"{{"id":"{one}","kind":"{kind}","revision":{revision}}}"#),
        )
    };
    let tombstone = |key: Option<&str>| Message {
        key: key.map(|key| key.as_bytes().to_vec()),
        ..Message::default()
    };
    vec![
        state(1),
        tombstone(Some(&one)),
        state(2),
        state(4),
        tombstone(Some(&nothing)),
        tombstone(None),
        tombstone(Some(&one)),
        state(5),
        tombstone(Some(&one)),
    ]
}

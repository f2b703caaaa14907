//! Entities as the service meets them: seeded, of several kinds and sizes, each in several states.
//!
//! Every state carries `revision`, which only grows: by it a test sees an entity go backwards.

use local_stack::Message;
use local_stack::random::Random;

const KINDS: [&str; 13] = [
    "Account",
    "Analysis",
    "Audit",
    "Dataset",
    "Documentation",
    "Evaluation",
    "Family",
    "InferenceService",
    "InferenceSession",
    "Method",
    "Model",
    "Report",
    "SafetyCase",
];
const STATUSES: [&str; 4] = ["Created", "Admitted", "Ready", "Complete"];
const WORDS: [&str; 8] = [
    "audit", "größe", "prompt", "model", "日本", "run", "tool", "e\\u0301",
];

/// Entities that go on from state to state.
pub struct Entities {
    random: Random,
    ids: Vec<String>,
    revisions: Vec<u32>,
}

impl Entities {
    /// `count` entities without a state yet, always the same for the same seed.
    pub fn new(seed: u64, count: usize) -> Entities {
        let mut random = Random::new(seed);
        let ids = (0..count)
            .map(|_| format!("{:016x}{:016x}", random.bits(), random.bits()))
            .collect();
        Entities {
            random,
            ids,
            revisions: vec![0; count],
        }
    }

    /// The next `records` states, of entities picked at random.
    pub fn states(&mut self, records: usize) -> Vec<Message> {
        (0..records).map(|_| self.state()).collect()
    }

    fn state(&mut self) -> Message {
        let entity = self.random.below(self.ids.len());
        self.revisions[entity] += 1;
        let (id, revision) = (&self.ids[entity], self.revisions[entity]);
        let kind = KINDS[entity % KINDS.len()];
        let status = STATUSES[(revision as usize - 1).min(STATUSES.len() - 1)];
        // A field that not every state carries: under `$set` it stays from the state that did.
        let reason = match revision % 3 {
            0 => format!(r#""reason":"Because{revision}","#),
            _ => String::new(),
        };
        let label = match revision % 2 {
            0 => "null".to_owned(),
            _ => format!(r#""v{revision}""#),
        };
        let count = 20 + self.random.below(200);
        let words: Vec<&str> = (0..count)
            .map(|_| WORDS[self.random.below(WORDS.len())])
            .collect();
        let json = format!(
            r#"{{"id":"{id}","kind":"{kind}","schemaVersion":"0.1","status":"{status}",{reason}"revision":{revision},
               "labels":{{"dyff.io/owner":"{entity}","dyff.io/note":{label}}},"annotations":[{{"key":"k","value":"ü"}}],
               "bytes":{},"score":{}.5e-3,"spec":{{"replicas":3,"image":{{"$oid":"no","tag":null}},"empty":[],"flag":true}},
               "text":"{}"}}"#,
            self.random.bits() >> 1,
            self.random.below(1_000_000),
            words.join(" ")
        );
        Message::new(id.as_str(), json)
    }
}

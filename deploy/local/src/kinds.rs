//! What entities of each kind hold: the shapes of Dyff's schema, with random contents.

mod fields;

use std::fmt::Write;

use crate::json::Object;
use crate::random::Random;

/// A kind, how common it is, and its fields.
pub struct Kind {
    /// Such as `Dataset`.
    pub name: &'static str,
    weight: usize,
    fields: fn(&mut Random, &mut Object<'_>),
}

/// Common kinds as in production, rare ones so that every shape of route is used.
const KINDS: [Kind; 18] = [
    Kind {
        name: "Evaluation",
        weight: 260,
        fields: fields::evaluation,
    },
    Kind {
        name: "InferenceSession",
        weight: 170,
        fields: fields::inference_session,
    },
    Kind {
        name: "Measurement",
        weight: 130,
        fields: fields::measurement,
    },
    Kind {
        name: "Report",
        weight: 50,
        fields: fields::report,
    },
    Kind {
        name: "Model",
        weight: 50,
        fields: fields::model,
    },
    Kind {
        name: "InferenceService",
        weight: 48,
        fields: fields::inference_service,
    },
    Kind {
        name: "Audit",
        weight: 46,
        fields: fields::audit,
    },
    Kind {
        name: "Module",
        weight: 45,
        fields: fields::module,
    },
    Kind {
        name: "Family",
        weight: 41,
        fields: fields::family,
    },
    Kind {
        name: "Revision",
        weight: 41,
        fields: fields::revision,
    },
    Kind {
        name: "Dataset",
        weight: 40,
        fields: fields::dataset,
    },
    Kind {
        name: "SafetyCase",
        weight: 39,
        fields: fields::measurement,
    },
    Kind {
        name: "DataSource",
        weight: 37,
        fields: fields::data_source,
    },
    Kind {
        name: "Method",
        weight: 20,
        fields: fields::method,
    },
    Kind {
        name: "OCIArtifact",
        weight: 8,
        fields: fields::module,
    },
    Kind {
        name: "UseCase",
        weight: 6,
        fields: fields::family,
    },
    Kind {
        name: "Challenge",
        weight: 4,
        fields: fields::report,
    },
    Kind {
        name: "Submission",
        weight: 4,
        fields: fields::audit,
    },
];

const WORDS: [&str; 32] = [
    "accuracy",
    "adversarial",
    "baseline",
    "bias",
    "calibration",
    "clinical",
    "coverage",
    "dialogue",
    "embedding",
    "fairness",
    "gradient",
    "harm",
    "inference",
    "jailbreak",
    "latency",
    "model",
    "multilingual",
    "perplexity",
    "prompt",
    "quantised",
    "refusal",
    "retrieval",
    "robustness",
    "safety",
    "summary",
    "token",
    "toxicity",
    "évaluation",
    "sûreté",
    "安全評価",
    "данные",
    "🧪",
];

/// One kind, by weight.
pub fn pick(random: &mut Random) -> &'static Kind {
    let mut left = random.below(KINDS.iter().map(|kind| kind.weight).sum());
    let found = KINDS.iter().find(|kind| {
        let here = left < kind.weight;
        left = left.saturating_sub(kind.weight);
        here
    });
    found.unwrap_or(&KINDS[0])
}

impl Kind {
    /// The fields of its own, as JSON text without braces.
    pub fn body(&self, random: &mut Random) -> String {
        fragment(|object| (self.fields)(random, object))
    }
}

/// A word.
pub fn word(random: &mut Random) -> &'static str {
    random.pick(&WORDS)
}

/// Two words and a number.
pub fn title(random: &mut Random) -> String {
    format!("{} {} {}", word(random), word(random), random.below(10_000))
}

/// Some words, now and then with what must be escaped.
pub fn sentence(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..4 + random.below(12) {
        let _ = write!(text, "{} ", word(random));
    }
    match random.below(12) {
        0 => text + "\"quoted\" \\ path",
        1 => text + "\n\tsecond line \u{1f}",
        2 => text + "$status {\"$set\": 1}",
        _ => text + "end.",
    }
}

/// The fields that end every entity, as JSON text without braces.
pub fn metadata(random: &mut Random, out: &mut String) {
    out.push_str(&fragment(|object| {
        object.object("metadata", |metadata| {
            metadata.text("revision", &random.hex(20));
            metadata.object("documentation", |page| {
                page.text("title", &title(random));
                page.text("summary", &sentence(random));
            });
            metadata.objects("preconditions", random.below(3), |_, condition| {
                condition.text("id", &random.hex(32));
                condition.text("kind", pick(random).name);
            });
        });
        object.objects("annotations", random.below(3), |_, annotation| {
            annotation.text("key", &format!("dyff.io/{}", word(random)));
            annotation.text("value", &random.hex(16));
        });
    }));
}

fn fragment(fields: impl FnOnce(&mut Object<'_>)) -> String {
    let mut text = String::new();
    Object::write(&mut text, fields);
    text[1..text.len() - 1].to_owned()
}

//! The fields of each kind.

use super::{pick, sentence, title, word};
use crate::json::Object;
use crate::random::Random;

/// Mostly a few; one in a hundred times tens of times as many, which makes the heavy tail of sizes.
fn several(random: &mut Random, usual_max: usize) -> usize {
    let usual = 1 + random.below(usual_max);
    if random.chance(1) {
        usual * (5 + random.below(35))
    } else {
        usual
    }
}

fn reference(random: &mut Random, name: &str, object: &mut Object<'_>) {
    object.object(name, |target| {
        target.text("id", &random.hex(32));
        target.text("name", &title(random));
        target.text("account", &random.hex(32));
    });
}

fn resources(random: &mut Random, object: &mut Object<'_>) {
    object.object("resources", |resources| {
        resources.plain("storageBytes", (random.bits() >> 24) as i64);
        resources.plain("balance", -((random.bits() >> 20) as i64));
        resources.text("memory", &format!("{}Gi", 1 << random.below(8)));
        resources.plain("cpu", random.below(64));
    });
}

fn schema(random: &mut Random, object: &mut Object<'_>) {
    object.object("schema", |schema| {
        schema.text("arrowSchema", &random.hex(240));
        schema.object("dyffSchema", |dyff| {
            dyff.texts(
                "components",
                (0..1 + random.below(3))
                    .map(|_| title(random))
                    .collect::<Vec<_>>(),
            );
            dyff.text("schemaVersion", "0.1");
        });
        // Looks like extended JSON and is data.
        schema.object("jsonSchema", |json| json.text("$oid", &random.hex(24)));
    });
}

fn artifacts(random: &mut Random, object: &mut Object<'_>) {
    object.objects("artifacts", several(random, 2), |_, artifact| {
        artifact.text("kind", "parquet");
        artifact.text("path", &format!("data/{}.parquet", random.hex(12)));
        artifact.object("digest", |digest| digest.text("md5", &random.hex(32)));
        artifact.plain("sizeBytes", (random.bits() >> 28) as i64);
    });
}

fn scores(random: &mut Random, object: &mut Object<'_>) {
    object.objects("scores", several(random, 3), |index, score| {
        score.text("name", &format!("score_{index}"));
        score.text("title", &title(random));
        score.text("summary", &sentence(random));
        score.text("valence", random.pick(&["positive", "negative", "neutral"]));
        score.plain("minimum", random.float(1e7));
        score.plain("maximum", random.float(1e7));
        score.plain("epsilon", format_args!("{:e}", random.float(1e-7)));
        score.plain("samples", random.below(100_000));
        score.plain("primary", index == 0);
    });
}

pub(super) fn evaluation(random: &mut Random, object: &mut Object<'_>) {
    object.text("dataset", &random.hex(32));
    object.plain("replications", 1 + random.below(5));
    object.plain("workersPerReplica", random.below(8));
    object.object("client", |client| {
        client.text("badRequestPolicy", random.pick(&["Abort", "Skip"]));
        client.plain("requestTimeoutSeconds", 30 + random.below(600));
        client.plain("duplicateOutputsPolicy", "null");
    });
    object.object("inferenceSession", |session| {
        inference_session(random, session)
    });
    scores(random, object);
}

pub(super) fn inference_session(random: &mut Random, object: &mut Object<'_>) {
    object.plain("replicas", 1 + random.below(4));
    object.plain("useSpotPods", random.chance(50));
    object.object("accelerator", |accelerator| {
        accelerator.text("kind", "GPU");
        accelerator.object("gpu", |gpu| {
            gpu.texts("hardwareTypes", ["nvidia.com/gpu-a100".to_owned()]);
            gpu.plain("count", 1 + random.below(8));
        });
    });
    object.object("inferenceService", |service| {
        service.text("id", &random.hex(32));
        inference_service(random, service);
    });
}

pub(super) fn inference_service(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    object.object("interface", |interface| {
        interface.text("endpoint", "generate");
        interface.objects("inputPipeline", several(random, 2), |_, step| {
            step.text("kind", "TransformJSON");
            step.object("configuration", |configuration| {
                configuration.text("prompt", &sentence(random))
            });
        });
    });
    reference(random, "model", object);
    resources(random, object);
}

pub(super) fn measurement(random: &mut Random, object: &mut Object<'_>) {
    object.object("scope", |scope| {
        for name in ["dataset", "evaluation", "inferenceService", "model"] {
            scope.text(name, &random.hex(32));
        }
    });
    object.objects("arguments", random.below(4), |_, argument| {
        argument.text("keyword", word(random));
        argument.text("value", &title(random));
    });
    object.objects("inputs", 1 + random.below(3), |_, input| {
        input.text("keyword", word(random));
        input.text("entity", &random.hex(32));
    });
    object.object("method", |fields| {
        fields.text("id", &random.hex(32));
        method(random, fields);
    });
    object.objects("data", random.below(3), |_, datum| {
        datum.text("key", word(random));
        datum.text("value", &random.hex(120));
    });
    object.text("level", random.pick(&["Dataset", "Instance"]));
    schema(random, object);
}

pub(super) fn method(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    object.text("scope", "InferenceService");
    object.object("implementation", |implementation| {
        implementation.text("kind", "JupyterNotebook")
    });
    object.objects("parameters", random.below(4), |_, parameter| {
        parameter.text("keyword", word(random));
        parameter.text("description", &sentence(random));
    });
    object.object("output", |output| {
        output.text("kind", "SafetyCase");
        output.object("safetyCase", |case| case.text("name", &title(random)));
    });
    scores(random, object);
    object.texts(
        "modules",
        (0..random.below(3))
            .map(|_| random.hex(32))
            .collect::<Vec<_>>(),
    );
}

pub(super) fn report(random: &mut Random, object: &mut Object<'_>) {
    object.text("rubric", &format!("dyff.rubrics.{}", word(random)));
    for name in ["evaluation", "dataset", "inferenceService", "model"] {
        object.text(name, &random.hex(32));
    }
    object.texts(
        "modules",
        (0..several(random, 4))
            .map(|_| random.hex(32))
            .collect::<Vec<_>>(),
    );
}

pub(super) fn model(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    object.object("artifact", |artifact| {
        artifact.text("kind", "HuggingFaceCache");
        artifact.object("huggingFaceCache", |cache| {
            cache.text("repoID", &title(random))
        });
    });
    object.object("source", |source| {
        source.text("kind", "HuggingFaceHub");
        source.text("revision", &random.hex(40));
        source.texts(
            "allowPatterns",
            (0..several(random, 3))
                .map(|_| format!("*.{}", word(random)))
                .collect::<Vec<_>>(),
        );
    });
    resources(random, object);
    object.plain("accelerators", "null");
}

pub(super) fn audit(random: &mut Random, object: &mut Object<'_>) {
    object.text("auditProcedure", &random.hex(32));
    object.text("inferenceService", &random.hex(32));
}

pub(super) fn module(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    artifacts(random, object);
}

pub(super) fn family(random: &mut Random, object: &mut Object<'_>) {
    object.text("memberKind", pick(random).name);
    object.object("members", |members| {
        for index in 0..several(random, 3) {
            members.object(&format!("v{index}"), |member| {
                member.text("name", &title(random));
                member.text("entity", &random.hex(32));
                member.text("description", &sentence(random));
            });
        }
    });
}

pub(super) fn revision(random: &mut Random, object: &mut Object<'_>) {
    object.text("revisionOf", &random.hex(32));
    object.text("previousRevision", &random.hex(20));
    object.object("data", |data| {
        data.text("kind", pick(random).name);
        data.object("snapshot", |snapshot| dataset(random, snapshot));
    });
}

pub(super) fn dataset(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    artifacts(random, object);
    schema(random, object);
    object.objects("views", random.below(3), |_, view| {
        view.text("id", &random.hex(32));
        view.text("viewOf", &random.hex(32));
        schema(random, view);
    });
}

pub(super) fn data_source(random: &mut Random, object: &mut Object<'_>) {
    object.text("name", &title(random));
    object.text("sourceKind", random.pick(&["huggingface", "upload", "zip"]));
    object.text(
        "source",
        &format!("https://data.example/{}", random.hex(12)),
    );
}

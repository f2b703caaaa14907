//! What a person on call waits for: letters listed and replayed, and an entity explained.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bson::doc;
use local_stack::{Message, observe, produce};
use rdkafka::ClientConfig;
use tempfile::NamedTempFile;
use tokio::time::sleep;
use workflows_sink::writer::dead_letter;

use crate::figures::Figures;
use crate::load::{Load, scattered_id};
use crate::stage::Stage;

/// How many records are rejected.
const LETTERS: usize = 5_000;
/// How many keys they belong to.
const KEYS: usize = 2_500;
/// How often the memory of a command is looked at.
const LOOK: Duration = Duration::from_millis(2);
const DEADLINE: Duration = Duration::from_secs(600);

const MAPPING_FILE: &str = "DYFF_WORKFLOWS_SINK__MAPPING_FILE";
const REJECTIONS_MAX: &str = "DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX";

/// Takes the figures.
pub async fn measure(
    stage: &mut Stage,
    load: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    for _ in 0..rounds {
        letters(stage, figures).await?;
    }
    for partitions in [load.partitions, 1] {
        explain(stage, Load { partitions, ..load }, rounds, figures).await?;
    }
    stage.clear().await
}

/// A command: what it took, and the most memory that was seen.
struct Ran {
    seconds: f64,
    peak_bytes: u64,
}

/// Runs a command to its end, whatever its exit code.
async fn run(
    stage: &Stage,
    topic: &str,
    group: &str,
    settings: &[(&str, &str)],
    words: &[&str],
) -> Result<Ran> {
    let mut command = stage.command(topic, group, settings);
    command.args(words).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let (began, mut peak_bytes) = (Instant::now(), 0);
    let mut child = command.spawn().context("it does not run")?;
    while child.try_wait()?.is_none() {
        if let Ok(usage) = observe::usage(child.id()) {
            peak_bytes = usage.peak_memory_bytes.max(peak_bytes);
        }
        ensure!(began.elapsed() < DEADLINE, "{words:?} does not end");
        sleep(LOOK).await;
    }
    Ok(Ran {
        seconds: began.elapsed().as_secs_f64(),
        peak_bytes,
    })
}

/// Waits until a service has settled `records`, and stops it.
async fn consume(
    stage: &Stage,
    topic: &str,
    group: &str,
    settings: &[(&str, &str)],
    records: usize,
) -> Result<()> {
    let mut service = stage.spawn(topic, group, settings)?;
    let end = Instant::now() + DEADLINE;
    while service.settled().await? < records {
        ensure!(Instant::now() < end, "not everything was settled");
        sleep(Duration::from_millis(50)).await;
    }
    service.stop().await.map(drop)
}

/// Letters of a kind that the mapping learns of later.
async fn letters(stage: &mut Stage, figures: &mut Figures) -> Result<()> {
    stage.clear().await?;
    let (topic, group) = (stage.topic(12).await?, stage.name("group"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stage.bootstrap());
    let name = topic.clone();
    let messages = (0..LETTERS).map(|n| {
        let id = scattered_id(n % KEYS);
        let text = format!("{n:01700}");
        Message::new(
            id.clone(),
            format!(r#"{{"id":"{id}","kind":"Novelty","version":{n},"text":"{text}"}}"#),
        )
    });
    let producing = tokio::task::spawn_blocking(move || produce(&config, &name, messages));
    producing.await??;
    consume(stage, &topic, &group, &[(REJECTIONS_MAX, "0")], LETTERS).await?;

    let limit = LETTERS.to_string();
    for (what, words) in [
        ("list", &["dead-letters", "list", "--limit", &limit][..]),
        ("list --by kind", &["dead-letters", "list", "--by", "kind"]),
        ("summary", &["dead-letters", "summary"]),
    ] {
        let ran = run(stage, &topic, &group, &[], words).await?;
        figures.add("commands", "5,000 letters", what, "s", ran.seconds);
    }
    let ran = run(stage, &topic, &group, &[], &["--version"]).await?;
    figures.add(
        "commands",
        "5,000 letters",
        "the process alone",
        "s",
        ran.seconds,
    );

    let mut mapping = NamedTempFile::new()?;
    mapping.write_all(b"id='id'\nkind='kind'\n[collections]\nNovelty='novelties'\n")?;
    let path = mapping.path().to_str().context("UTF-8")?;
    let words = ["dead-letters", "replay", "--yes"];
    let ran = run(stage, &topic, &group, &[(MAPPING_FILE, path)], &words).await?;
    let closed = stage
        .database()
        .collection::<bson::Document>(dead_letter::COLLECTION);
    let closed = closed
        .count_documents(doc! { "state": dead_letter::REPLAYED })
        .await?;
    ensure!(closed == LETTERS as u64, "{closed} letters were replayed");
    let per_second = LETTERS as f64 / ran.seconds;
    figures.add(
        "commands",
        "5,000 letters",
        "replay",
        "letters/s",
        per_second,
    );
    add_memory(figures, "5,000 letters", "replay's memory", &ran);
    Ok(())
}

/// One entity of a full topic.
async fn explain(
    stage: &mut Stage,
    load: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    stage.clear().await?;
    let (topic, _) = stage.filled(load).await?;
    let group = stage.name("group");
    consume(stage, &topic, &group, &[], load.states).await?;
    let models = stage.database().collection::<bson::Document>("models");
    let found = models.find_one(doc! {}).await?.context("an entity")?;
    let key = found.get_str("_id")?;
    let case = format!("{} records, {} partitions", load.states, load.partitions);
    for _ in 0..rounds {
        let ran = run(stage, &topic, &group, &[], &["explain", key]).await?;
        figures.add("commands", &case, "explain", "s", ran.seconds);
        add_memory(figures, &case, "explain's memory", &ran);
    }
    Ok(())
}

fn add_memory(figures: &mut Figures, case: &str, name: &str, ran: &Ran) {
    let mib = ran.peak_bytes as f64 / f64::from(1 << 20);
    figures.add("commands", case, name, "MiB", mib);
}

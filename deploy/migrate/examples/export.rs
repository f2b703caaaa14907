//! Writes an export as `gcloud datastore export` does, of entities that never were.
//! Arguments: FOLDER [ENTITIES]

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use datastore_export::write::ExportWriter;
use datastore_migrate::example;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder: PathBuf = arguments
        .next()
        .context("arguments: FOLDER [ENTITIES]")?
        .into();
    let count = arguments.next().map_or(Ok(60), |count| count.parse())?;
    let mut writer = ExportWriter::create(&folder, "example")?;
    for entity in example::entities(count) {
        writer.add(&entity)?;
    }
    writer.finish()?;
    println!(
        "{count} entities and their accounts are in {}",
        folder.display()
    );
    Ok(())
}

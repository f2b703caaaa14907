//! The entities of an export, one after the other, with their progress.

use std::path::PathBuf;

use anyhow::Result;
use datastore_export::{Entity, Fault, Place, sources};

use crate::progress::Progress;

/// Gives each entity, or what stands in the place of one, to `each`.
///
/// # Errors
/// Where a file is not found or cannot be opened, and those of `each`.
pub fn each_entity(
    exports: &[PathBuf],
    mut each: impl FnMut(Place, Result<Entity, Fault>) -> Result<()>,
) -> Result<()> {
    let sources = sources(exports)?;
    let all = sources.iter().map(|source| source.bytes).sum();
    let progress = Progress::new(all, "entities");
    let mut before = 0;
    for source in &sources {
        let mut reader = source.open()?;
        while let Some((place, entity)) = reader.next() {
            each(place, entity)?;
            progress.item(before + reader.bytes_read());
        }
        before += source.bytes.unwrap_or_default();
    }
    progress.end();
    Ok(())
}

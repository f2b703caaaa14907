//! The entities of an export, one after the other, with their progress.

use std::path::PathBuf;

use anyhow::Result;
use datastore_export::{Entity, Place, sources};

use crate::progress::Progress;
use crate::report::Report;

/// Whether there is one that cannot be read a second time.
pub fn is_read_once(exports: &[PathBuf]) -> bool {
    exports.iter().any(|export| export.as_os_str() == "-")
}

/// Gives each entity to `each`; what stands in the place of one goes to the report.
///
/// # Errors
/// Where a file is not found or cannot be opened, and those of `each`.
pub fn each_entity(
    exports: &[PathBuf],
    report: &mut Report,
    mut each: impl FnMut(&Place, Entity, &mut Report) -> Result<()>,
) -> Result<()> {
    let found = sources(exports)?;
    report.unchecked.extend(found.unchecked);
    let sources = found.files;
    let all = sources.iter().map(|source| source.bytes).sum();
    let progress = Progress::new(all, "entities");
    let mut before = 0;
    for source in &sources {
        let mut reader = source.open()?;
        while let Some((place, entity)) = reader.next() {
            match entity {
                Ok(entity) => each(&place, entity, report)?,
                Err(fault) => report.reject(&place, None, fault),
            }
            progress.item(before + reader.bytes_read());
        }
        before += source.bytes.unwrap_or_default();
    }
    progress.end();
    Ok(())
}

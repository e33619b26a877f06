//! Reports of hours or days, while a run goes on: `--report-every` (docs/report.md).
//!
//! The state says which are out of date ([`crate::outputs::DueReport`]). Making one takes time, so a
//! run that goes on makes them only as often as leaves most of its time for calls. The clock decides
//! when a report is made, never what is in it.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: the clock that says when reports may be made again"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use shared::files;

use crate::{
    config::Config,
    outputs::{DueReport, Every, Outputs},
    report_page::{self, Part, Settings, Task},
};

/// After reports were made, so many times as long as that took is for other work.
const REST: u32 = 19;
/// The shortest time between two rounds.
const SHORTEST_REST: Duration = Duration::from_secs(1);

/// The reports of a run.
#[derive(Debug)]
pub struct Reports<'c> {
    /// The settings, and how much time a report covers; `None` if there are no such reports.
    settings: Option<(&'c Settings, Every)>,
    directory: &'c Path,
    rests_until: Option<Instant>,
}

impl<'c> Reports<'c> {
    /// The reports that a run is to make.
    #[must_use]
    pub fn of(config: &'c Config) -> Self {
        let settings = config.report.as_ref();
        Self {
            settings: settings.and_then(|settings| Some((settings, settings.every?))),
            directory: &config.outputs.directory,
            rests_until: None,
        }
    }

    /// Makes the reports that are out of date; unless `all` must be made, not if some were made just
    /// now. Returns true if one was made.
    ///
    /// # Errors
    /// A report cannot be written: it is still out of date.
    pub fn make(
        &mut self,
        all: bool,
        outputs: &mut Outputs,
        mut alive: impl FnMut(),
    ) -> Result<bool> {
        let Some((settings, every)) = self.settings else {
            return Ok(false);
        };
        if !all && self.rests_until.is_some_and(|until| Instant::now() < until) {
            return Ok(false);
        }
        let due = outputs.due_reports();
        let begun = Instant::now();
        let all = due.iter().try_for_each(|report| -> Result<()> {
            let task = task(settings, self.directory, every, *report);
            files::remove_leftovers(&task.to)
                .with_context(|| format!("{} cannot be written", task.to.display()))?;
            let written = report_page::write(&task, &mut alive)?;
            tracing::info!("{}", written.told(&task));
            outputs.report_made(*report, written.found);
            Ok(())
        });
        if !due.is_empty() {
            let rest = begun.elapsed().saturating_mul(REST).max(SHORTEST_REST);
            self.rests_until = Instant::now().checked_add(rest);
        }
        all.map(|()| !due.is_empty())
    }
}

/// The report of the calls of a stretch.
fn task(settings: &Settings, directory: &Path, every: Every, report: DueReport) -> Task {
    Task {
        to: path_of(&settings.to, &every.name(report.stretch)),
        part: Some(Part {
            starts: every.starts(report.stretch),
            offset: report.offset,
        }),
        ..settings.task(directory)
    }
}

/// `DIR/calls.html` with the name of a stretch: `DIR/calls-2026-11-29.html`.
fn path_of(path: &Path, name: &str) -> PathBuf {
    let mut file_name = path.file_stem().unwrap_or_default().to_owned();
    file_name.push("-");
    file_name.push(name);
    if let Some(extension) = path.extension() {
        file_name.push(".");
        file_name.push(extension);
    }
    path.with_file_name(file_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_reports() {
        for (path, want) in [
            ("/r/calls.html", "/r/calls-2026-11-29.html"),
            ("calls", "calls-2026-11-29"),
            ("a.b/calls.2.html", "a.b/calls.2-2026-11-29.html"),
        ] {
            assert_eq!(path_of(Path::new(path), "2026-11-29"), Path::new(want));
        }
    }
}

//! The terms of a state: only a run that would have had the same results may continue from it.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use shared::units::{GoDuration, SipPorts};

use crate::{
    calls::{LinkRules, Rules},
    config::{Config, Source},
    events::stable_hash,
    outputs::{Columns, OutputSettings},
    packet::Decoder,
    problems::Thresholds,
    selection::{Named, Written},
    source::{Name, NamedInput},
};

/// The terms of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The files, in the order of reading; `None` for directories.
    pub files: Option<Vec<NamedInput>>,
    conditions: Conditions,
    /// A hash value of this build. Hashes are carried over, so a build with another hash function
    /// cannot continue.
    hash: u64,
}

/// Everything that the results depend on, except the captures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Conditions {
    sip_ports: SipPorts,
    decoder: Decoder,
    rules: Rules,
    links: LinkRules,
    calls_table: Name,
    streams_table: Name,
    columns: Columns,
    thresholds: Thresholds,
    overwrite: bool,
    shows_digits: bool,
    writes_json: bool,
    parquet: Option<Name>,
    writes_messages: bool,
    writes_conversations: bool,
    leaves_out_copies: bool,
    selection: Written,
}

impl Terms {
    /// The terms of a run over these files, or over directories.
    #[must_use]
    pub fn new(config: &Config, files: Option<Vec<NamedInput>>) -> Self {
        let Config {
            source,
            decoder,
            sip_ports,
            rules,
            links,
            outputs,
            ..
        } = config;
        let conditions = Conditions {
            sip_ports: *sip_ports,
            decoder: decoder.clone(),
            rules: *rules,
            links: links.clone(),
            calls_table: Name::of(&outputs.detected_calls_filename),
            streams_table: Name::of(&outputs.stats_filename),
            columns: outputs.columns,
            thresholds: outputs.thresholds,
            overwrite: outputs.overwrite,
            shows_digits: outputs.shows_digits,
            writes_json: outputs.writes_json,
            parquet: outputs.parquet.as_ref().map(Name::of),
            writes_messages: outputs.writes_messages,
            writes_conversations: outputs.writes_conversations,
            leaves_out_copies: matches!(source, Source::Directories(directories) if directories.leaves_out_copies),
            selection: Written::of(&outputs.selection),
        };
        Self {
            files,
            conditions,
            hash: stable_hash(b"SIPCALLS"),
        }
    }

    /// The output settings of the runs that wrote the state: pending rows go into the tables with
    /// the names of that time.
    #[must_use]
    pub fn named(&self, outputs: &OutputSettings) -> OutputSettings {
        let Conditions {
            calls_table,
            streams_table,
            columns,
            writes_json,
            parquet,
            overwrite,
            writes_conversations,
            ..
        } = &self.conditions;
        OutputSettings {
            columns: *columns,
            writes_conversations: *writes_conversations,
            writes_json: *writes_json,
            parquet: parquet.as_ref().map(|path| path.to_path().to_owned()),
            overwrite: *overwrite,
            detected_calls_filename: calls_table.to_path().to_owned(),
            stats_filename: streams_table.to_path().to_owned(),
            ..outputs.clone()
        }
    }

    /// The terms and settings of a run that continues from a state. Over files, relative times keep
    /// the moments that they meant when the first run began. Over directories they have their
    /// present meaning.
    #[must_use]
    pub fn going_on(self, state: &Self, outputs: &OutputSettings) -> (Self, OutputSettings) {
        let mut outputs = outputs.clone();
        if self.files.is_none() {
            return (self, outputs);
        }
        let written = &state.conditions.selection;
        let now = outputs.selection;
        outputs.selection = written.with_moments(&now);
        for (flag, then, now) in [
            ("--since", &outputs.selection.since, now.since),
            ("--until", &outputs.selection.until, now.until),
        ] {
            if let Some(Named {
                at,
                words: Some(words),
            }) = then
                && *then != now
            {
                tracing::info!(
                    "{flag} {words} keeps its meaning from the start of the interrupted run: {at}"
                );
            }
        }
        let conditions = Conditions {
            selection: Written::of(&outputs.selection),
            ..self.conditions
        };
        (Self { conditions, ..self }, outputs)
    }

    /// Checks whether a run may continue from a state that was written on `other` terms.
    ///
    /// # Errors
    /// It may not; the error has the reason and the remedy.
    pub fn check(&self, other: &Self) -> Result<()> {
        let advice =
            "choose another --output-dir, or discard the unfinished work with --reset-state";
        match (&self.files, &other.files) {
            (Some(_), None) => bail!(
                "the output directory belongs to runs with --input-dir, which left open calls or a record of segments; {advice}"
            ),
            (None, Some(_)) => bail!(
                "the output directory belongs to a run with --input-file that was interrupted; finish it with the same command as before, {advice}"
            ),
            (Some(mine), Some(theirs)) if mine != theirs => bail!(
                "a run over other files was interrupted in the output directory ({}); finish it with the same command as before, {advice}",
                theirs
                    .first()
                    .map(|left| left.path.to_path().display().to_string())
                    .unwrap_or_default()
            ),
            _ => {}
        }
        let both = self
            .conditions
            .flags()
            .into_iter()
            .zip(other.conditions.flags());
        if let Some(((flag, mine), (_, theirs))) =
            both.into_iter().find(|(mine, theirs)| mine != theirs)
        {
            bail!(
                "the state was written with {flag} {theirs}, and this run has {flag} {mine}: the unfinished work would not fit; \
                 use the former flags (with --final to close the open calls), {advice}"
            );
        }
        if self.hash != other.hash {
            bail!(
                "the state was written by another build of this program; finish with that build and --final, {advice}"
            );
        }
        Ok(())
    }
}

impl Conditions {
    /// The flags that the conditions come from, with their values.
    fn flags(&self) -> Vec<(&'static str, String)> {
        let Self {
            sip_ports,
            decoder,
            rules,
            links,
            calls_table,
            streams_table,
            columns,
            thresholds,
            overwrite,
            shows_digits,
            writes_json,
            parquet,
            writes_messages,
            writes_conversations,
            leaves_out_copies,
            selection,
        } = self;
        let Rules {
            linger_ns,
            call_timeout_ns,
            lookback_ns,
            max_open_calls,
        } = *rules;
        let mut flags = vec![
            ("--sip-ports-range", sip_ports.to_string()),
            ("--hep-ports", decoder.hep_ports().to_string()),
            ("--erspan-span-ids", decoder.span_ids()),
            ("--erspan-vlans", decoder.vlans()),
            (
                "--call-timeout",
                GoDuration::from_ns(call_timeout_ns.unwrap_or(0)).to_string(),
            ),
            ("--linger", GoDuration::from_ns(linger_ns).to_string()),
            (
                "--media-lookback",
                GoDuration::from_ns(lookback_ns).to_string(),
            ),
            ("--max-open-calls", max_open_calls.to_string()),
            ("--conversation-header", links.headers.join(" ")),
            (
                "--conversation-numbers",
                GoDuration::from_ns(links.numbers_ns.unwrap_or(0)).to_string(),
            ),
            (
                "--detected-calls-filename",
                calls_table.to_path().display().to_string(),
            ),
            (
                "--stats-filename",
                streams_table.to_path().display().to_string(),
            ),
            ("--columns", columns.to_string()),
            ("--problem-loss", thresholds.loss_percent.to_string()),
            (
                "--problem-jitter",
                GoDuration::from_ns(thresholds.jitter_ns).to_string(),
            ),
            ("--problem-mos", thresholds.mos.to_string()),
            (
                "--problem-setup",
                GoDuration::from_ns(thresholds.setup_ns).to_string(),
            ),
            ("--overwrite", overwrite.to_string()),
            ("--dtmf-digits", shows_digits.to_string()),
            ("--json", writes_json.to_string()),
            (
                "--parquet",
                parquet.as_ref().map_or_else(
                    || "nothing".to_owned(),
                    |path| path.to_path().display().to_string(),
                ),
            ),
            ("--json-messages", writes_messages.to_string()),
            ("--conversations", writes_conversations.to_string()),
            ("--dedup", leaves_out_copies.to_string()),
        ];
        flags.extend(selection.flags());
        flags
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The terms of a run with this linger, in nanoseconds.
    pub(crate) fn terms(files: Option<Vec<NamedInput>>, linger_ns: u64) -> Terms {
        let conditions = Conditions {
            sip_ports: SipPorts::Any,
            decoder: Decoder::default(),
            rules: Rules {
                linger_ns,
                call_timeout_ns: None,
                lookback_ns: 0,
                max_open_calls: 9,
            },
            links: LinkRules::default(),
            calls_table: Name::of("calls.csv"),
            streams_table: Name::of("streams.csv"),
            columns: Columns::All,
            thresholds: Thresholds::default(),
            overwrite: false,
            shows_digits: false,
            writes_json: false,
            parquet: None,
            writes_messages: false,
            writes_conversations: false,
            leaves_out_copies: false,
            selection: Written::default(),
        };
        Terms {
            files,
            conditions,
            hash: 1,
        }
    }

    #[test]
    fn terms_that_differ_are_named() {
        const SECOND: u64 = 1_000_000_000;
        let of_directories = |linger| terms(None, linger * SECOND);
        let of_files = terms(Some(Vec::new()), 5 * SECOND);
        assert!(of_directories(5).check(&of_directories(5)).is_ok());
        let why = of_directories(7)
            .check(&of_directories(5))
            .unwrap_err()
            .to_string();
        assert!(
            why.contains("written with --linger 5s") && why.contains("has --linger 7s"),
            "{why}"
        );
        assert!(
            of_files
                .check(&of_directories(5))
                .unwrap_err()
                .to_string()
                .contains("--input-dir")
        );
        assert!(
            of_directories(5)
                .check(&of_files)
                .unwrap_err()
                .to_string()
                .contains("--input-file")
        );
        let other_build = Terms {
            hash: 2,
            ..of_directories(5)
        };
        assert!(
            of_directories(5)
                .check(&other_build)
                .unwrap_err()
                .to_string()
                .contains("another build")
        );
    }
}

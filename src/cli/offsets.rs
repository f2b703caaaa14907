//! `offsets`: the checkpoints, shown and moved.

use clap::{Args, Subcommand};

use super::time::time;

/// What to do with checkpoints.
#[derive(Debug, Subcommand)]
pub enum Offsets {
    /// Show log start and end, checkpoint, lag, committed offset, owner and epoch of each partition
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets show\n  \
                  workflows-sink offsets show --topic dyff.workflows.state --json")]
    Show {
        /// Which partitions.
        #[command(flatten)]
        partitions: Partitions,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Move checkpoints: replaying is safe, skipping loses records
    ///
    /// Refused while the group has members, unless one partition is named: its worker continues
    /// from where the checkpoint is moved. Without --yes it only shows what it would do. The
    /// checkpoint gets a new owner, so that a worker that returns cannot write under the old one;
    /// the committed offset is moved too, or follows.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets reset --to earliest\n  \
                  workflows-sink offsets reset --to 2026-01-31T12:00:00Z --yes\n  \
                  workflows-sink offsets reset --to 4711 --partition 3 --yes")]
    Reset {
        /// `earliest`, `latest`, an offset, a time such as 2026-01-31T12:00:00Z, or how long ago,
        /// such as -1h (the first record that is not older)
        #[arg(long, allow_hyphen_values = true)]
        to: ResetTarget,
        /// Which checkpoints.
        #[command(flatten)]
        moving: MoveOptions,
    },
    /// Let stopped partitions continue
    ///
    /// A partition stops when its checkpoint is not in the log: the log's start has passed it
    /// (records are lost), or the log was truncated. This moves such checkpoints to the log's
    /// start, and no others. A partition also stops when too many records in a row were rejected,
    /// or when a batch of records cannot be read: then --continue or --retry says what becomes of
    /// them. The service may keep running, and continues by itself. Without --yes it only shows
    /// what it would do.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets resolve --partition 3 --yes\n  \
                  workflows-sink offsets resolve --partition 3 --retry --yes\n  \
                  workflows-sink offsets resolve --partition 3 --reject --yes")]
    Resolve {
        /// Which checkpoints.
        #[command(flatten)]
        moving: MoveOptions,
        /// What becomes of the records that stopped a partition.
        #[command(flatten)]
        way: HaltResolution,
    },
    /// Remove the checkpoints of another group, such as one whose name was misspelt
    ///
    /// Those of the configured topics. Refused while that group has members. Its dead letters and
    /// its committed offsets stay. Without --yes it only shows what it would do.
    #[command(after_help = "Examples:\n  \
                  workflows-sink offsets forget --group dyff.system.mongo.sink\n  \
                  workflows-sink offsets forget --group dyff.system.mongo.sink --yes")]
    Forget {
        /// The other group
        #[arg(long)]
        group: String,
        /// Remove them, rather than show what would be done
        #[arg(long)]
        yes: bool,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

/// Which partitions a command is about; all of the configured topics by default.
#[derive(Args, Clone, Debug, Default)]
pub struct Partitions {
    /// Only this topic
    #[arg(long)]
    pub topic: Option<String>,
    /// Only this partition
    #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,
}

/// Which checkpoints a command moves, and whether it only shows what it would do.
#[derive(Args, Clone, Debug)]
pub struct MoveOptions {
    /// Which partitions.
    #[command(flatten)]
    pub partitions: Partitions,
    /// Move the checkpoints, rather than show what would be done
    #[arg(long)]
    pub yes: bool,
    /// Print JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// What becomes of the records that stopped a partition.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub struct HaltResolution {
    /// Continue after them: rejected records stay dead letters, those that cannot be read are lost
    #[arg(long = "continue")]
    pub behind: bool,
    /// Apply or read them again
    #[arg(long)]
    pub retry: bool,
    /// Make the partition's next record, which MongoDB neither accepts nor refuses, a dead letter
    #[arg(long)]
    pub reject: bool,
}

/// Where to move a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// The start of the log.
    Earliest,
    /// Its end.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record that is not older than this, in milliseconds since 1970.
    Time(i64),
}

impl std::str::FromStr for ResetTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<ResetTarget, String> {
        match text {
            "earliest" => return Ok(ResetTarget::Earliest),
            "latest" => return Ok(ResetTarget::Latest),
            _ => {}
        }
        if let Ok(offset) = text.parse::<u64>() {
            return i64::try_from(offset)
                .map(ResetTarget::Offset)
                .map_err(|_| "offsets have 63 bits".to_owned());
        }
        time(text)
            .map(ResetTarget::Time)
            .map_err(|why| format!("neither earliest, latest, an offset, {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_name_an_offset_or_a_time() {
        assert_eq!("earliest".parse(), Ok(ResetTarget::Earliest));
        assert_eq!("latest".parse(), Ok(ResetTarget::Latest));
        assert_eq!("0".parse(), Ok(ResetTarget::Offset(0)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(ResetTarget::Time(1000)));
        assert_eq!(
            "1970-01-01T01:00:01+01:00".parse(),
            Ok(ResetTarget::Time(1000))
        );
        let before = jiff::Timestamp::now().as_millisecond();
        let Ok(ResetTarget::Time(hour)) = "-1h 30m".parse() else {
            panic!("a time");
        };
        assert!((before - hour - 5_400_000).abs() < 10_000);
        for bad in [
            "",
            "-1",
            "now",
            "1e3",
            "99999999999999999999",
            "2026-01-31",
            "9223372036854775808",
        ] {
            assert!(bad.parse::<ResetTarget>().is_err(), "{bad}");
        }
    }
}

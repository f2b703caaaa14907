//! Every setting of the service: name, default, meaning, example. The one table behind parsing,
//! error messages, `docs/configuration.md` and `config/example.env`.

/// The beginning of every setting of the service's own; no other variable may begin with it.
pub const PREFIX: &str = "DYFF_WORKFLOWS_SINK__";

/// The beginning of a librdkafka property: the rest is lower-cased, and `_` becomes `.`.
pub const KAFKA_PREFIX: &str = "DYFF_KAFKA__CONFIG__";

/// The end of a variable that names a file with the secret.
pub const FILE_SUFFIX: &str = "_FILE";

/// One environment variable.
#[derive(Debug)]
pub struct Setting {
    /// The variable.
    pub name: &'static str,
    /// Its value where it is not set, in the same notation.
    pub default: Option<&'static str>,
    /// A value that is valid.
    pub example: &'static str,
    /// What it means, as a sentence.
    pub meaning: &'static str,
    /// Whether it is never shown, and also read from the file that `<name>_FILE` names.
    pub secret: bool,
}

/// Whole MongoDB URI.
pub const CONNECTION_STRING: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
    default: None,
    example: "mongodb+srv://workflows-sink@dyff-datastore-rs0.mongodb.svc.cluster.local/workflows\
              ?replicaSet=rs0&ssl=false&authSource=users",
    meaning: "The whole MongoDB URI, of a replica set. Required.",
    secret: true,
};
/// Database.
pub const DATABASE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE",
    default: Some("workflows"),
    example: "workflows",
    meaning: "The database of the entities, the checkpoints and the dead letters. The URI's \
              database is only the default `authSource`.",
    secret: false,
};
/// Password of the MongoDB user.
pub const PASSWORD: Setting = Setting {
    name: "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
    default: None,
    example: "correct-horse",
    meaning: "The password of the URI's user, where the URI carries none.",
    secret: true,
};
/// Credentials in files that may change.
pub const CREDENTIALS_DIR: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__CREDENTIALS_DIR",
    default: None,
    example: "/run/workflows-sink/credentials",
    meaning: "A directory, such as a mounted Secret, whose files replace the three variables above \
              and have their names. They are reread every second, and when a login is refused: a \
              changed password is used without a restart. If there is a \
              `DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_NEXT`, it is tried after the \
              password.",
    secret: false,
};
/// Brokers: the one librdkafka property that is listed, as everyone sets it.
pub const BOOTSTRAP_SERVERS: Setting = Setting {
    name: "DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS",
    default: Some("kafka.kafka.svc.cluster.local"),
    example: "kafka-0.kafka:9092,kafka-1.kafka:9092",
    meaning: "The Kafka brokers to ask first, comma-separated, as `host` or `host:port`.",
    secret: false,
};
/// The topic, under the name that existing ConfigMaps carry.
pub const TOPIC: Setting = Setting {
    name: "DYFF_KAFKA__TOPICS__WORKFLOWS_STATE",
    default: Some("dyff.workflows.state"),
    example: "dyff.workflows.state",
    meaning: "The topic to consume.",
    secret: false,
};
/// Topics.
pub const TOPICS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__TOPICS",
    default: None,
    example: "dyff.workflows.state,dyff.workflows.events",
    meaning: "The topics to consume, comma-separated; replaces \
              `DYFF_KAFKA__TOPICS__WORKFLOWS_STATE`.",
    secret: false,
};
/// Group.
pub const GROUP: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__GROUP",
    default: Some("dyff.system.mongodb.sink"),
    example: "dyff.system.mongodb.sink",
    meaning: "The consumer group. Another group has checkpoints of its own and is not fenced \
              against this one.",
    secret: false,
};
/// Static membership.
pub const GROUP_INSTANCE_ID: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__GROUP_INSTANCE_ID",
    default: None,
    example: "workflows-sink-0",
    meaning: "Static membership: a name of its own for each worker, such as the pod's in a \
              StatefulSet. Then a restart within the session timeout moves no partition.",
    secret: false,
};
/// Start without offsets.
pub const START: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__START",
    default: Some("earliest"),
    example: "earliest",
    meaning: "Where a group without checkpoint and committed offset begins: `earliest` or \
              `latest`.",
    secret: false,
};
/// Write mode.
pub const WRITE_MODE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__WRITE_MODE",
    default: Some("set"),
    example: "set",
    meaning: "`set`: fields that a later state no longer has stay; `replace`: the whole document \
              is replaced.",
    secret: false,
};
/// Tombstones.
pub const TOMBSTONES: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__TOMBSTONES",
    default: Some("ignore"),
    example: "ignore",
    meaning: "What a record without a value does: `ignore`, or `delete` the entity that its key \
              names.",
    secret: false,
};
/// Changes of kind.
pub const KIND_CHANGES: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__KIND_CHANGES",
    default: Some("keep"),
    example: "keep",
    meaning: "What becomes of an entity's document in another collection, where a state of another \
              kind creates a new one: `keep` it, or `delete` it in the same transaction.",
    secret: false,
};
/// Mapping file.
pub const MAPPING_FILE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__MAPPING_FILE",
    default: None,
    example: "config/mapping.toml",
    meaning: "A mapping of fields, kinds and collections that replaces the built-in one \
              (`config/mapping.toml`).",
    secret: false,
};
/// Records of a batch.
pub const FLUSH_RECORDS_MAX: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__FLUSH_RECORDS_MAX",
    default: Some("1000"),
    example: "1000",
    meaning: "The most records in a batch, which is one transaction: 1 to 2000.",
    secret: false,
};
/// Bytes of a batch.
pub const FLUSH_BYTES_MAX: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__FLUSH_BYTES_MAX",
    default: Some("2MiB"),
    example: "2MiB",
    meaning: "The most bytes (BSON) in a batch: 16KiB to 8MiB. A first record that is larger still \
              fits.",
    secret: false,
};
/// Bytes of everything.
pub const BUDGET_BYTES_MAX: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX",
    default: Some("384MiB"),
    example: "384MiB",
    meaning: "The most bytes in batches and Kafka queues together; fetch and queue sizes follow \
              from it. At least 64MiB + 2 × `LANES_MAX` × `FLUSH_BYTES_MAX`; a start warns where \
              the topic's partitions need more.",
    secret: false,
};
/// Batches written at the same time.
pub const LANES_MAX: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__LANES_MAX",
    default: Some("4"),
    example: "4",
    meaning: "The most large batches at the same time, each in a transaction of its own, and as \
              many small ones where those cannot share one: 1 to 128. Further partitions wait \
              their turn.",
    secret: false,
};
/// Drain deadline.
pub const DRAIN_DEADLINE_MS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__DRAIN_DEADLINE_MS",
    default: Some("25000"),
    example: "25000",
    meaning: "How long a shutdown or a revoked partition waits for the batch in flight, in \
              milliseconds: 1 to 600000. Keep it below the pod's termination grace period and \
              `max.poll.interval.ms`.",
    secret: false,
};
/// Breaker.
pub const REJECTIONS_IN_A_ROW_MAX: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__REJECTIONS_IN_A_ROW_MAX",
    default: Some("1000"),
    example: "1000",
    meaning: "A partition stops once this many records in a row are rejected (a changed schema, a \
              wrong topic); 0: never.",
    secret: false,
};
/// Closed dead letters.
pub const DEAD_LETTERS_CLOSED_TTL_SECONDS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__DEAD_LETTERS_CLOSED_TTL_SECONDS",
    default: Some("0"),
    example: "7776000",
    meaning: "How long dead letters are kept once they are replayed or discarded, in seconds: 0 \
              to 2147483647; 0: for ever. Open ones are always kept.",
    secret: false,
};
/// Metrics and probes.
pub const LISTEN_ADDRESS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__LISTEN_ADDRESS",
    default: Some("0.0.0.0:9090"),
    example: "[::]:9090",
    meaning: "Where to serve `/metrics`, `/livez` and `/readyz`, as `address:port`.",
    secret: false,
};
/// Log format.
pub const LOG_FORMAT: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__LOG_FORMAT",
    default: Some("auto"),
    example: "json",
    meaning: "`json`, `human`, or `auto`: `human` on a terminal, else `json`. Faults of the \
              configuration, which are found before the log begins, are JSON only with `json`.",
    secret: false,
};
/// Log filter.
pub const LOG_FILTER: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK__LOG_FILTER",
    default: Some("info"),
    example: "info,workflows_sink::lane=debug,librdkafka=info",
    meaning: "Which log lines appear: `level` or `target=level`, comma-separated. A level alone is \
              that of this service; libraries stay at `warn` unless named.",
    secret: false,
};

/// All settings, in the order in which the reference shows them.
pub const SETTINGS: [&Setting; 24] = [
    &CONNECTION_STRING,
    &PASSWORD,
    &DATABASE,
    &CREDENTIALS_DIR,
    &BOOTSTRAP_SERVERS,
    &TOPIC,
    &TOPICS,
    &GROUP,
    &GROUP_INSTANCE_ID,
    &START,
    &WRITE_MODE,
    &TOMBSTONES,
    &KIND_CHANGES,
    &MAPPING_FILE,
    &FLUSH_RECORDS_MAX,
    &FLUSH_BYTES_MAX,
    &BUDGET_BYTES_MAX,
    &LANES_MAX,
    &DRAIN_DEADLINE_MS,
    &REJECTIONS_IN_A_ROW_MAX,
    &DEAD_LETTERS_CLOSED_TTL_SECONDS,
    &LISTEN_ADDRESS,
    &LOG_FORMAT,
    &LOG_FILTER,
];

/// Whether `name` is one of `settings`, or the `_FILE` variant of a secret one.
pub fn is_known(settings: &[&Setting], name: &str) -> bool {
    settings.iter().any(|setting| {
        name == setting.name
            || setting.secret && name.strip_suffix(FILE_SUFFIX) == Some(setting.name)
    })
}

/// Of the `settings` that begin with `prefix`, the name that is most like `name`.
pub fn nearest(settings: &[&Setting], prefix: &str, name: &str) -> &'static str {
    let last = name.rsplit('_').next().unwrap_or(name);
    settings
        .iter()
        .map(|setting| setting.name)
        .filter(|known| known.starts_with(prefix))
        .min_by_key(|known| {
            // A part between is left out more often than the last word is another one.
            let (ends, has) = (known.ends_with(last), known.contains(last));
            (!ends, !has, strsim::damerau_levenshtein(known, name))
        })
        .expect("a table has settings with its own prefix")
}

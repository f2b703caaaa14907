//! The MongoDB Kafka Connector on the same topic, into the same mongod.

use std::fs;

use anyhow::{Context, Result, bail};
use local_stack::{Server, certificates, install, observe, port};

use crate::drain::serve;
use crate::figures::Figures;
use crate::load::Load;
use crate::stage::{Stage, number, status};

/// A part of the topic is enough for a rate.
const STATES: usize = 40_000;
const JARS_SHA256: &str = "28b83defbb02018175a653b1fbd79aa9a73d0a0937130262e73cca0e314d67c5";
/// What Connect's own start script gives it.
const HEAP: [&str; 2] = ["-Xms256M", "-Xmx2G"];
/// The collection by the entity's kind, as the contract has it, or all entities in one: the
/// connector's best case.
const CASES: [(&str, &str); 2] = [
    (
        "routed by kind",
        "namespace.mapper=com.mongodb.kafka.connect.sink.namespace.mapping.FieldPathNamespaceMapper\n\
         namespace.mapper.value.collection.field=kind\n",
    ),
    ("one collection", ""),
];

/// Takes the figures, and the service's beside them.
pub async fn measure(
    stage: &mut Stage,
    load: Load,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let pom = include_str!("../connect-pom.xml");
    let jars =
        tokio::task::spawn_blocking(move || install::jars("connect-4.1.0-2.0.1", pom, JARS_SHA256))
            .await??;
    for _ in 0..rounds {
        stage.clear().await?;
        let service = serve(stage, load, 1, &[]).await?.drained;
        for (case, mapper) in CASES {
            stage.clear().await?;
            let (topic, _) = stage.filled(load).await?;
            let mut connect = start(stage, &topic, &jars.to_string_lossy(), mapper)?;
            let pid = connect.pid().context("Connect has ended")?;
            let database = stage.database();
            let updates = async || {
                let now = status(database.client()).await?;
                Ok::<_, anyhow::Error>(number(&now, ["opcounters", "update"]))
            };
            let before = updates().await?;
            let drained = stage
                .follow(
                    STATES.min(load.states),
                    async || {
                        if let Err(error) = connect.check() {
                            bail!("{error:#}");
                        }
                        Ok((updates().await? - before) as usize)
                    },
                    || Ok(observe::usage(pid)?.cpu),
                )
                .await;
            let drained = drained.with_context(|| connect.log_tail())?;
            let memory = observe::usage(pid)?.peak_memory_bytes as f64 / f64::from(1 << 20);
            connect.kill()?;
            figures.add("peers", case, "connector", "records/s", drained.per_second);
            figures.add(
                "peers",
                case,
                "connector's CPU a record",
                "µs",
                drained.cpu_us,
            );
            figures.add(
                "peers",
                case,
                "mongod's CPU a record, by connector",
                "µs",
                drained.mongod_cpu_us,
            );
            figures.add("peers", case, "connector's peak memory", "MiB", memory);
            figures.add("peers", case, "service", "records/s", service.per_second);
            figures.add(
                "peers",
                case,
                "service ÷ connector",
                "",
                service.per_second / drained.per_second,
            );
            figures.add(
                "peers",
                case,
                "CPU, service ÷ connector",
                "",
                service.cpu_us / drained.cpu_us,
            );
        }
    }
    stage.clear().await
}

fn start(stage: &mut Stage, topic: &str, jars: &str, mapper: &str) -> Result<Server> {
    let mut server = Server::new("connect")?;
    let directory = server.directory().to_owned();
    let name = stage.name("connect");
    let worker = format!(
        "bootstrap.servers={}\nkey.converter=org.apache.kafka.connect.storage.StringConverter\n\
         value.converter=org.apache.kafka.connect.json.JsonConverter\nvalue.converter.schemas.enable=false\n\
         offset.storage.file.filename={}\nlisteners=http://127.0.0.1:{}\nplugin.discovery=service_load\n\
         consumer.auto.offset.reset=earliest\nconsumer.max.poll.records=2000\n",
        stage.bootstrap(),
        directory.join("offsets").display(),
        port::free()?,
    );
    let connector = format!(
        "name={name}\nconnector.class=com.mongodb.kafka.connect.MongoSinkConnector\ntasks.max=4\ntopics={topic}\n\
         connection.uri={}&w=majority\ndatabase={}\ncollection=entities\n\
         transforms=id\ntransforms.id.type=org.apache.kafka.connect.transforms.ReplaceField$Value\n\
         transforms.id.renames=id:_id\n\
         document.id.strategy=com.mongodb.kafka.connect.sink.processor.id.strategy.ProvidedInValueStrategy\n\
         writemodel.strategy=com.mongodb.kafka.connect.sink.writemodel.strategy.UpdateOneDefaultStrategy\n{mapper}",
        stage.uri()?,
        local_stack::mongo::DATABASE,
    );
    let [worker_file, connector_file] =
        ["worker.properties", "connector.properties"].map(|name| directory.join(name));
    fs::write(&worker_file, worker)?;
    certificates::write_private(&connector_file, &connector)?;
    fs::write(
        directory.join("log4j2.properties"),
        include_str!("../../deploy/local/log4j2.properties"),
    )?;
    let log = format!(
        "-Dlog4j2.configurationFile={}",
        directory.join("log4j2.properties").display()
    );
    let class_path = format!("{jars}/*");
    let class = "org.apache.kafka.connect.cli.ConnectStandalone";
    let files = [&worker_file, &connector_file].map(|file| file.to_string_lossy().into_owned());
    let arguments = [
        HEAP[0],
        HEAP[1],
        &log,
        "-cp",
        &class_path,
        class,
        &files[0],
        &files[1],
    ];
    server.command(["java"].into_iter().chain(arguments));
    server.start()?;
    Ok(server)
}

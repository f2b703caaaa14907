//! Both servers: started here, or those that the user names.

use std::env;

use anyhow::Result;
use mongodb::Client;

use crate::kafka::{Kafka, KafkaOptions};
use crate::mongo::{DATABASE, Mongo, MongoOptions};
use crate::topics::Topics;

/// A running MongoDB and a running Kafka.
pub struct Stack {
    /// `None` if the user named another by `STACK_MONGODB_URI`.
    pub mongo: Option<Mongo>,
    /// `None` if the user named another by `STACK_KAFKA_BOOTSTRAP`.
    pub kafka: Option<Kafka>,
    mongodb_uri: String,
    bootstrap: String,
}

impl Stack {
    /// Starts what `STACK_MONGODB_URI` and `STACK_KAFKA_BOOTSTRAP` do not name.
    pub async fn start(mongo: MongoOptions, kafka: KafkaOptions) -> Result<Stack> {
        let named = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let (mongodb_uri, bootstrap) = (named("STACK_MONGODB_URI"), named("STACK_KAFKA_BOOTSTRAP"));
        let mongo = async {
            match mongodb_uri {
                Some(uri) => Ok((None, uri)),
                None => Mongo::start(mongo)
                    .await
                    .map(|mongo| (Some(mongo), String::new())),
            }
        };
        let kafka = async {
            match bootstrap {
                Some(bootstrap) => Ok((None, bootstrap)),
                None => Kafka::start(kafka)
                    .await
                    .map(|kafka| (Some(kafka), String::new())),
            }
        };
        let ((mongo, mongodb_uri), (kafka, bootstrap)) = tokio::try_join!(mongo, kafka)?;
        Ok(Stack {
            mongo,
            kafka,
            mongodb_uri,
            bootstrap,
        })
    }

    /// `host:port` of the broker.
    pub fn bootstrap(&self) -> String {
        self.kafka
            .as_ref()
            .map_or_else(|| self.bootstrap.clone(), Kafka::bootstrap)
    }

    /// Topics of the broker.
    pub fn topics(&self) -> Result<Topics> {
        Topics::new(&self.bootstrap())
    }

    /// A client of MongoDB who may do everything (as the user named in the URI, if the server was
    /// named).
    pub async fn admin(&self) -> Result<Client> {
        match &self.mongo {
            Some(mongo) => mongo.admin().await,
            None => Ok(Client::with_uri_str(&self.mongodb_uri).await?),
        }
    }

    /// What to set in the service's environment so that it uses these servers.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let uri = self
            .mongo
            .as_ref()
            .map_or_else(|| self.mongodb_uri.clone(), Mongo::uri_without_password);
        let mut all = vec![
            ("DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS", self.bootstrap()),
            ("DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING", uri),
            (
                "DYFF_WORKFLOWS_SINK__MONGODB__DATABASE",
                DATABASE.to_owned(),
            ),
        ];
        if let Some(password) = self.mongo.as_ref().and_then(Mongo::password) {
            all.push((
                "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD",
                password.to_owned(),
            ));
        }
        all
    }
}

//! A server of a few lines, so that the driver's own errors can be tested without a mongod: it
//! answers every command as a function says, and closes the connection where that gives nothing.

use std::net::SocketAddr;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const OP_MSG: i32 = 2013;

/// What is answered to a command of this name.
pub type Answers = fn(&str) -> Option<Document>;

/// A client of a new server; `credential` is `user:password@`, or nothing.
pub async fn client(credential: &str, answers: Answers) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, address, answers));
        }
    });
    let uri = format!(
        "mongodb://{credential}{address}/?directConnection=true&serverSelectionTimeoutMS=5000"
    );
    Client::with_options(ClientOptions::parse(uri).await.unwrap()).unwrap()
}

async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    answers: Answers,
) -> std::io::Result<()> {
    loop {
        let len = stream.read_i32_le().await?;
        let request = stream.read_i32_le().await?;
        let _response_to = stream.read_i32_le().await?;
        let _opcode = stream.read_i32_le().await?;
        let mut body = vec![0; len as usize - 16];
        stream.read_exact(&mut body).await?;
        // Flags, then the kind of the first section, then the command.
        let command = Document::from_reader(&body[5..]).unwrap();
        let answer = match command.keys().next().map(String::as_str) {
            Some("hello" | "isMaster") => Some(greeting(address)),
            name => answers(name.unwrap()),
        };
        let Some(answer) = answer else { return Ok(()) };
        let document = answer.to_vec().unwrap();
        let len = (16 + 5 + document.len()) as i32;
        let mut reply: Vec<u8> = [len, 0, request, OP_MSG]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        reply.extend([0; 5]);
        reply.extend(document);
        stream.write_all(&reply).await?;
    }
}

fn greeting(address: SocketAddr) -> Document {
    doc! {
        "helloOk": true, "ismaster": true, "isWritablePrimary": true, "setName": "rs0",
        "setVersion": 1,
        "hosts": [address.to_string()], "me": address.to_string(), "maxBsonObjectSize": 16 << 20,
        "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": 30,
        "minWireVersion": 0, "maxWireVersion": 21, "ok": 1.0,
    }
}

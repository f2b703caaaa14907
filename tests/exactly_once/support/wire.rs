//! The frames of MongoDB's protocol, as far as tests need them: `OP_MSG` with one body.

use std::io;

use bson::{Document, RawDocument};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the body begins: behind the header, the flags and the kind of the section.
const BODY: usize = 16 + 4 + 1;
const OP_MSG: u32 = 2013;

/// The next frame; it begins with its own length.
pub async fn frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = from.read_u32_le().await?;
    let mut frame = len.to_le_bytes().to_vec();
    frame.resize(len as usize, 0);
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

pub fn body(frame: &[u8]) -> Option<&RawDocument> {
    let len = u32::from_le_bytes(frame.get(BODY..BODY + 4)?.try_into().ok()?) as usize;
    RawDocument::from_bytes(frame.get(BODY..BODY + len)?).ok()
}

/// A frame that holds `body`; `id` is its own, and that of the request if it is an answer.
pub fn message(id: &[u8], body: &Document) -> Vec<u8> {
    let body = body.to_vec().unwrap();
    let len = (BODY + body.len()) as u32;
    let (len, op_msg) = (len.to_le_bytes(), OP_MSG.to_le_bytes());
    [&len[..], id, id, &op_msg, &[0; 4], &[0], &body].concat()
}

/// Runs a command without a session, which the driver does not let be.
pub async fn ask(server: &str, command: &Document) -> Document {
    let mut server = TcpStream::connect(server).await.unwrap();
    server.write_all(&message(&[0; 4], command)).await.unwrap();
    let answer = frame(&mut server).await.unwrap();
    Document::try_from(body(&answer).unwrap()).unwrap()
}

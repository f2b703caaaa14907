//! Asks a worker again and again whether it is alive, as the kubelet does.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use test_support::http;

const ASK_EVERY: Duration = Duration::from_millis(700);

/// What a worker answered.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The longest time without a yes while nothing kept it from answering.
    pub silence: Duration,
    /// What it said when it said no.
    pub denied: Option<String>,
}

struct Shared {
    log: PathBuf,
    /// Excuses so far, and their ends: odd is excused.
    turn: AtomicUsize,
    ended: AtomicBool,
    heard: Mutex<Heard>,
}

/// The thread that asks one worker.
pub struct Pulse(Arc<Shared>);

impl Pulse {
    /// Asks the worker whose log this is from its first answer on.
    pub fn start(log: PathBuf) -> Pulse {
        let shared = Arc::new(Shared {
            log,
            turn: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            heard: Mutex::default(),
        });
        let asking = Arc::clone(&shared);
        std::thread::spawn(move || asking.ask());
        Pulse(shared)
    }

    /// From now on it need not answer: say so before it is frozen.
    pub fn excuse(&self) {
        self.0.turn.fetch_or(1, SeqCst);
    }

    /// It must answer again: say so once it is thawed.
    pub fn expect(&self) {
        let turn = self.0.turn.load(SeqCst);
        self.0.turn.store(turn.next_multiple_of(2), SeqCst);
    }

    /// Asks no more: say so before it is ended.
    pub fn end(&self) -> Heard {
        self.0.ended.store(true, SeqCst);
        self.0.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.0.ended.store(true, SeqCst);
    }
}

impl Shared {
    fn ask(&self) {
        let mut address = None;
        // When it said yes last, or began to be expected to.
        let mut last: Option<(Instant, usize)> = None;
        while !self.ended.load(SeqCst) {
            std::thread::sleep(ASK_EVERY);
            let turn = self.turn.load(SeqCst);
            if turn % 2 == 1 {
                continue;
            }
            if last.is_some_and(|(_, then)| then != turn) {
                last = Some((Instant::now(), turn));
            }
            if address.is_none() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                address = http::listening(&log);
            }
            let Some(address) = &address else { continue };
            let answer = http::get(address, "/livez");
            if self.turn.load(SeqCst) != turn || self.ended.load(SeqCst) {
                continue;
            }
            let mut heard = self.heard.lock().expect("no panic");
            if let Some((last, _)) = last {
                heard.silence = heard.silence.max(last.elapsed());
            }
            match answer {
                Some((200, _)) => last = Some((Instant::now(), turn)),
                Some((status, body)) => {
                    heard.denied.get_or_insert(format!("{status} {body}"));
                }
                None => {}
            }
        }
    }
}

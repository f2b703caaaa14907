//! What the tests of the service share.
#![allow(dead_code)]

pub mod apart;
pub mod credentials;
pub mod entities;
pub mod fail_point;
pub mod history;
pub mod load;
pub mod operator;
pub mod reference;
pub mod worker;

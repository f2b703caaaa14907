//! With the real parts of a cluster that take long to build: `make test-cluster`.

mod operator;
mod scaling;

//! `admin`: users and Secrets as the table says, from any state and over any kill, on a real API
//! server and mongod.

mod gate;
mod process;
mod scene;
mod world;

mod drift;
mod files;
mod kill;
mod observed;
mod outage;
mod provision;
mod quick_check;
mod race;
mod rotate;
mod secrets;
mod sidecar;
mod small_admin;

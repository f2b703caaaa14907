//! SIGKILL before and behind every effect, and the next run.

use bson::doc;

use crate::gate::{Gate, MOMENTS, Moment, ended, killed};
use crate::scene::{NEXT, PASSWORD, SINK, Scene, URI};

/// For each effect of `arguments` on what `prepare` leaves, and each of its two sides: kills there,
/// lets `between` look, and runs `again` to its end. Returns how many effects there were.
async fn at_every_effect(
    scene: &Scene,
    arguments: &[&str],
    again: impl Fn(Moment) -> Vec<&'static str>,
    prepare: impl AsyncFn(),
    between: impl AsyncFn(),
) -> usize {
    let whole = async |stop| {
        prepare().await;
        let gate = Gate::new(scene, stop).await;
        let child = gate.start(scene, arguments);
        (gate, child)
    };
    let (gate, child) = whole(None).await;
    assert_eq!(ended(scene, child).await, Some(0));
    let effects = gate.effects();
    for effect in 0..effects {
        for moment in MOMENTS {
            let (gate, child) = whole(Some((effect, moment))).await;
            gate.reached().await;
            killed(scene, child).await;
            between().await;
            scene.done(&again(moment)).await;
            eprintln!("killed {moment:?} effect {effect} of {arguments:?}, and repaired");
            scene.is_right().await;
            assert_eq!(
                scene.provision().await,
                Vec::<String>::new(),
                "once is enough"
            );
        }
    }
    effects
}

const PROVISION: [&str; 3] = ["provision", "--user", SINK];

async fn nothing(scene: &Scene) {
    if scene.secret(crate::scene::SINK_SECRET).await.is_some() {
        scene.delete_secret().await;
    }
    if scene.account().await.is_some() {
        scene.users(doc! { "dropUser": SINK }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provision_that_was_killed_anywhere_is_finished_by_the_next() {
    let scene = Scene::new("killed_provision").await;
    let effects = at_every_effect(
        &scene,
        &PROVISION,
        |_| PROVISION.to_vec(),
        async || nothing(&scene).await,
        async || {},
    )
    .await;
    assert_eq!(effects, 2, "Secret, user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_was_killed_anywhere_is_finished_by_the_next() {
    let scene = Scene::new("killed_mending").await;
    let arguments = ["provision", "--user", SINK, "--prune-roles"];
    let prepare = async || {
        nothing(&scene).await;
        let data = [
            (PASSWORD, "the-password-of-a-person"),
            (URI, "mongodb://wrong/"),
            (NEXT, ""),
        ];
        scene.create_secret(&data).await;
        let role = doc! { "role": "dbAdmin", "db": "elsewhere" };
        let user = doc! { "createUser": SINK, "pwd": "another-password", "roles": [role] };
        scene.users(user).await;
    };
    let kept = async || assert_eq!(scene.password().await, "the-password-of-a-person");
    let again = |_| arguments.to_vec();
    let effects = at_every_effect(&scene, &arguments, again, prepare, kept).await;
    assert_eq!(
        effects, 6,
        "Secret (a key of a person's takes three), grant, revoke, mechanism"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_being_restored_is_restored_after_a_kill() {
    let scene = Scene::new("killed_restoring").await;
    scene.provision().await;
    let prepare = async || {
        scene
            .users(doc! { "updateUser": SINK, "pwd": "behind-its-back", "mechanisms": ["SCRAM-SHA-256"] })
            .await;
    };
    let again = |_| PROVISION.to_vec();
    // the gate's own connection string is not the scene's, so each run repairs that first
    let effects = at_every_effect(&scene, &PROVISION, again, prepare, async || {}).await;
    assert_eq!(effects, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_killed_anywhere_leaves_a_way_in_and_is_finished() {
    let scene = Scene::new("killed_rotation").await;
    scene.provision().await;
    let before = tokio::sync::Mutex::new(String::new());
    let prepare = async || {
        scene.done(&PROVISION).await;
        *before.lock().await = scene.password().await;
    };
    let between = async || {
        let current = scene.password().await;
        let in_by_next = match scene.value(NEXT).await {
            Some(next) => scene.authenticates(&next).await,
            None => false,
        };
        assert!(
            in_by_next || scene.authenticates(&current).await,
            "no password of the Secret is accepted"
        );
    };
    let again = |moment| match moment {
        // by the sidecar's next look, and by the command itself
        Moment::Look | Moment::After => PROVISION.to_vec(),
        Moment::Before => vec!["rotate", "--user", SINK],
    };
    let rotate = ["rotate", "--user", SINK];
    let effects = at_every_effect(&scene, &rotate, again, prepare, between).await;
    assert_eq!(effects, 4, "connection string, staged, changed, promoted");
    let first = before.lock().await;
    assert!(
        !scene.authenticates(&first).await,
        "the old password is refused"
    );
}

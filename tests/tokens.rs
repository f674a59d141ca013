//! Tokens are taken away, and given, without a restart.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use walferry::api::auth::token;
use walferry::config::Role;

use crate::api::{Server, token_entry};
use crate::scene::until;
use crate::support::launcher::{new_file, signal};

const SOON: Duration = Duration::from_secs(10);

/// What `GET /api/v1/queue/events` answers to the token.
async fn status(server: &Server, token: &str) -> StatusCode {
    let url = format!("http://{}/api/v1/queue/events", server.address);
    Client::new().get(url).bearer_auth(token).send().await.unwrap().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_with_the_tokens_counts_as_it_is_now() {
    let (one, two) = (token::generate().unwrap(), token::generate().unwrap());
    let first = token_entry("ann", Role::Viewer, &one);
    let second = token_entry("bob", Role::Viewer, &two);
    let file = new_file("tokens", &format!("{first}\n"));
    let server = Server::start_with(&[("WALFERRY_API_TOKENS_FILE", &file)]).await;
    assert_eq!(status(&server, &one).await, StatusCode::OK);
    assert_ne!(status(&server, &two).await, StatusCode::OK);
    let url = format!("http://{}/api/v1/queue/events", server.address);
    let mut watched = Client::new().get(url).bearer_auth(&one).send().await.unwrap();

    std::fs::write(&file, &second).unwrap();
    until(SOON, "the second token opens", async || status(&server, &two).await == StatusCode::OK)
        .await;
    assert_ne!(status(&server, &one).await, StatusCode::OK, "it was taken away");
    let ended = async { while watched.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(SOON, ended).await.expect("its stream ends");

    // What does not read changes nothing.
    std::fs::write(&file, "bob:viewer").unwrap();
    signal(std::process::id(), "HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(&server, &two).await, StatusCode::OK);
    // A signal is faster than the next look.
    std::fs::write(&file, format!("{first},{second}")).unwrap();
    signal(std::process::id(), "HUP");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(status(&server, &one).await, StatusCode::OK);

    // Nobody is let in where nobody is listed.
    std::fs::write(&file, "").unwrap();
    until(SOON, "no token opens", async || status(&server, &one).await != StatusCode::OK).await;
    let url = format!("http://{}/api/v1/queue/stats", server.address);
    assert_ne!(reqwest::get(url).await.unwrap().status(), StatusCode::OK);
    server.stop().await;
}

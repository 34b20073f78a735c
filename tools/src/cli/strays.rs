//! Which of the addresses that a command was given belong to another cluster than the others: a broker that lost its folder and was started
//! without `--join` founds one of its own where it was. Knows nothing of how that is shown.

use std::collections::BTreeMap;

use tidelog_protocol::ClusterId;

use super::ailing::PATIENCE;
use crate::connect::ConnectArgs;

/// An address at which another cluster answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stray {
    pub(super) address: String,
    pub(super) cluster: ClusterId,
}

/// Asks every address on its own, all at once. The addresses of the cluster that is meant, as a command takes them, with those that did not
/// answer; and the strays.
pub(super) async fn told_apart(connect: &ConnectArgs) -> (String, Vec<Stray>) {
    let addresses: Vec<&str> = connect.server.split(',').map(str::trim).collect();
    if addresses.len() < 2 {
        return (connect.server.clone(), Vec::new());
    }
    let patience = PATIENCE.min(connect.timeout() / 4);
    let asked: Vec<_> = addresses
        .into_iter()
        .map(|address| {
            let alone = ConnectArgs { server: address.into(), ..connect.clone() };
            let ask = async move {
                let client = alone.client_in_time("tidelog").await.ok()?;
                client.admin().describe_cluster().await.ok().map(|cluster| cluster.cluster_id)
            };
            (address.to_string(), tokio::spawn(tokio::time::timeout(patience, ask)))
        })
        .collect();
    let mut answers = Vec::new();
    for (address, asked) in asked {
        answers.push((address, asked.await.ok().and_then(Result::ok).flatten()));
    }
    let (ours, strays) = split(answers);
    (ours.join(","), strays)
}

/// The cluster that is meant is the one that most addresses belong to, and of two with as many the one that is named first.
fn split(answers: Vec<(String, Option<ClusterId>)>) -> (Vec<String>, Vec<Stray>) {
    let mut votes: BTreeMap<ClusterId, usize> = BTreeMap::new();
    answers.iter().filter_map(|(_, cluster)| *cluster).for_each(|cluster| *votes.entry(cluster).or_default() += 1);
    let most = votes.values().max().copied();
    let is_meant = |cluster: &ClusterId| votes.get(cluster).copied() == most;
    let meant = answers.iter().filter_map(|(_, cluster)| *cluster).find(is_meant);
    let (mut ours, mut strays) = (Vec::new(), Vec::new());
    for (address, cluster) in answers {
        match cluster.filter(|cluster| Some(*cluster) != meant) {
            Some(cluster) => strays.push(Stray { address, cluster }),
            None => ours.push(address),
        }
    }
    (ours, strays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_addresses_say_which_cluster_is_meant_wherever_the_stray_stands() {
        let (one, other) = (ClusterId([1; 16]), ClusterId([2; 16]));
        let told = |clusters: &[Option<ClusterId>]| {
            let named = clusters.iter().enumerate().map(|(number, cluster)| (number.to_string(), *cluster));
            let (ours, strays) = split(named.collect());
            (ours.join(""), strays.into_iter().map(|stray| (stray.address, stray.cluster)).collect::<Vec<_>>())
        };
        assert_eq!(told(&[Some(other), Some(one), Some(one)]), ("12".into(), vec![("0".into(), other)]));
        assert_eq!(told(&[Some(one), Some(one), Some(other)]), ("01".into(), vec![("2".into(), other)]));
        assert_eq!(told(&[None, Some(other), Some(one), None]), ("013".into(), vec![("2".into(), one)]));
        assert_eq!(told(&[None, None]), ("01".into(), vec![]));
        assert_eq!(told(&[Some(one), Some(one)]), ("01".into(), vec![]));
    }
}

from ser.data.loading import MIXED, BlockShuffle


def order(count: int, block: int, epoch: int = 0, replicas: int = 1, rank: int = 0) -> list[int]:
    sampler = BlockShuffle(count, block, replicas, rank, seed=3)
    sampler.set_epoch(epoch)
    assert len([*sampler]) == len(sampler)
    return [*sampler]


def test_each_position_comes_once_in_the_order_of_seed_and_epoch():
    assert sorted(order(1003, 10)) == [*range(1003)]
    assert order(1003, 10, epoch=1) == order(1003, 10, epoch=1) != order(1003, 10)
    # A few blocks at a time: what is read at once is of MIXED places.
    first = {position // 10 for position in order(1000, 10)[: 10 * MIXED]}
    assert len(first) == MIXED


def test_processes_share_an_epoch():
    shares = [order(1003, 10, replicas=4, rank=rank) for rank in range(4)]
    assert {len(share) for share in shares} == {251}
    assert {*order(1003, 10)} == {position for share in shares for position in share}

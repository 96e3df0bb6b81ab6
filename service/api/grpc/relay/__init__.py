"""What clients of gRPC connect to: it keeps them within limits, and passes the rest on as it is.

gRPC's own server has no limit on headers that go on in one frame after the other, on connections
of an address, or on the time that a message takes, and hands over calls faster than anybody could
begin them. Here the heads of frames are looked at, not what is in them: headers are passed on once
they are whole, calls begin by turns, and what is begun has to be finished.
"""

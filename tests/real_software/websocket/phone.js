// A JsSIP phone: node phone.js SERVER HOST MEDIA_PORT NAME [CALLEE]
//
// It registers. With a callee it calls, hangs up when the call is established, and ends; without, it
// answers one call and ends after it. JsSIP leaves media to the browser; there is none here, so the
// session description is built here.
'use strict';
global.window = global;
global.WebSocket = require('ws');
const JsSIP = require('jssip');

const [server, host, mediaPort, name, callee] = process.argv.slice(2);
const noMedia = { getTracks: () => [] };

class NoBrowser {
  constructor() {
    Object.assign(this, { signalingState: 'stable', iceGatheringState: 'complete', iceConnectionState: 'connected' });
  }
  addEventListener() {}
  removeEventListener() {}
  close() {}
  describe(type) {
    const lines = ['v=0', `o=- 1 1 IN IP4 ${host}`, 's=-', `c=IN IP4 ${host}`, 't=0 0', `m=audio ${mediaPort} RTP/AVP 8`];
    return { type, sdp: [...lines, 'a=rtpmap:8 PCMA/8000', ''].join('\r\n') };
  }
  async createOffer() { return this.describe('offer'); }
  async createAnswer() { return this.describe('answer'); }
  async setLocalDescription(description) { this.localDescription = description; }
  async setRemoteDescription(description) { this.remoteDescription = description; }
}
global.RTCPeerConnection = NoBrowser;
global.RTCSessionDescription = class { constructor(description) { Object.assign(this, description); } };

const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(`ws://${server}`)],
  uri: `sip:${name}@${server.split(':')[0]}`,
  session_timers: false,
});

phone.on('registered', () => {
  console.log('registered');
  if (callee) phone.call(`sip:${callee}@${server.split(':')[0]}`, { mediaStream: noMedia });
});
phone.on('newRTCSession', ({ session, originator }) => {
  session.on('ended', () => phone.stop());
  session.on('failed', ({ cause }) => { console.log(`failed: ${cause}`); process.exit(1); });
  if (originator === 'remote') session.answer({ mediaStream: noMedia });
  else session.on('confirmed', () => setImmediate(() => session.terminate()));
});
phone.on('disconnected', () => process.exit(0));
phone.start();

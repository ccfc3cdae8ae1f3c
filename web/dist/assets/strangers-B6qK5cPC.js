const __vite__mapDeps=(i,m=__vite__mapDeps,d=(m.f||(m.f=["assets/talk-DuX_-_vR.js","assets/icons-I7-K48Xo.js","assets/page-ISBS-S02.js","assets/messages-C3bfKhgu.js","assets/draft-D7HC8EvH.js","assets/files-Bv8nI5bI.js","assets/watched-B41rlUUT.js","assets/copy-DjJMiP4M.js","assets/format-CijQ4Vc-.js"])))=>i.map(i=>d[i]);
import{_ as W}from"./index-DZ-pLpkb.js";import{m as E,i as A,A as b,b as d}from"./icons-I7-K48Xo.js";import{i as z,e as X,P as B,d as K,b as I,c as Q,C as N,r as y,a as Z}from"./page-ISBS-S02.js";import{W as tt}from"./watched-B41rlUUT.js";import{S as et}from"./session-CeFJzfv7.js";import{c as it}from"./format-CijQ4Vc-.js";import{w as st}from"./why-CFJ5FMoO.js";const at=120,ot=1e3,nt=20;class rt extends tt{constructor(t){super(),this.options=t,this.state="waiting",this.#s=!1,this.#o=0,this.#n=[],this.#r=[],this.#a=Promise.resolve(),this.#i=1+Math.floor((t.random??Math.random)()*2**40),this.#l(!1)}#i;#t;#s;#o;#n;#r;#h;#c;#a;hear(t){return this.#a=this.#a.then(()=>this.#w(t)).catch(()=>{this.state!=="over"&&this.#e("failed")}),this.#a}end(){this.#e("over"),clearTimeout(this.#h),clearTimeout(this.#c),this.#t?.close(),this.#t=void 0}#e(t){this.state=t,this.changed()}#l(t){this.state!=="waiting"&&!t||(this.#o+=1,this.options.signal(JSON.stringify({hello:this.#i,answer:t})).catch(()=>{this.state!=="waiting"||this.#o>nt||(this.#c=setTimeout(()=>this.#l(t),ot))}))}#d(t){this.options.signal(JSON.stringify(t)).catch(()=>{})}async#w(t){let i;try{i=JSON.parse(t)}catch{return}if(!(!z(i)||this.state==="over")){if(X(i.hello))return await this.#g(i.hello,i.answer===!0);if(typeof i.offer=="string"){const s=this.#u();await s.setRemoteDescription({type:"offer",sdp:i.offer}),await this.#p(s),await s.setLocalDescription(await s.createAnswer()),this.#d({answer:s.localDescription?.sdp})}else typeof i.answer=="string"?(await this.#t?.setRemoteDescription({type:"answer",sdp:i.answer}),this.#t&&await this.#p(this.#t)):Array.isArray(i.candidates)&&(this.#n.push(...i.candidates.slice(0,64)),this.#t?.remoteDescription&&await this.#p(this.#t))}}async#g(t,i){if(i||this.#l(!0),this.state!=="waiting"||t===this.#i)return;clearTimeout(this.#c),this.#s=this.#i>t;const s=this.#u();this.#s&&await this.#f(s)}async#f(t){await t.setLocalDescription(await t.createOffer()),this.#d({offer:t.localDescription?.sdp})}async#p(t){for(const i of this.#n.splice(0))await t.addIceCandidate(i).catch(()=>{})}#u(){if(this.#t)return this.#t;const t=this.options.peer();this.#t=t;const{local:i}=this.options;for(const s of i?.getTracks()??[])t.addTrack(s,i);return t.ontrack=({streams:s,track:r})=>{this.remote=s[0]??new MediaStream([r]),this.changed()},t.onicecandidate=({candidate:s})=>{s&&(this.#r.push(s.toJSON()),this.#h??=setTimeout(()=>{this.#h=void 0,this.#d({candidates:this.#r.splice(0)})},at))},t.onconnectionstatechange=()=>{t.connectionState==="connected"&&this.#e("connected"),t.connectionState==="failed"&&(this.#e("failed"),this.#s&&(t.restartIce(),this.#f(t).catch(()=>{})))},this.#e("connecting"),t}}var ht=Object.defineProperty,ct=Object.getOwnPropertyDescriptor,q=e=>{throw TypeError(e)},v=(e,t,i,s)=>{for(var r=s>1?void 0:s?ct(t,i):t,l=e.length-1,M;l>=0;l--)(M=e[l])&&(r=(s?M(t,i,r):M(r))||r);return s&&r&&ht(t,i,r),r},O=(e,t,i)=>t.has(e)||q("Cannot "+i),a=(e,t,i)=>(O(e,t,"read from private field"),i?i.call(e):t.get(e)),w=(e,t,i)=>t.has(e)?q("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,i),c=(e,t,i,s)=>(O(e,t,"write to private field"),t.set(e,i),i),n=(e,t,i)=>(O(e,t,"access private method"),i),g,$,h,p,f,m,S,o,R,Y,H,k,P,x,V,_,T,C,L,j,J,U,F,D;const kt=()=>document.createElement("t-strangers"),lt=8,dt=300,pt=1e4;function ft(e){const t=e.split(/[,\n]/).map(i=>i.trim().toLowerCase().slice(0,32));return[...new Set(t.filter(Boolean))].slice(0,lt)}let u=class extends B{constructor(){super(...arguments),w(this,o),this.step="choose",this.pool="text",this.error="",this.why="",this.shared="",this.quiet=!1,this.dark=!1,w(this,g,[]),w(this,$,0),w(this,h),w(this,p),w(this,f),w(this,m),w(this,S,[])}connectedCallback(){super.connectedCallback(),setTimeout(()=>{G()},200)}disconnectedCallback(){super.disconnectedCallback(),n(this,o,C).call(this)}willUpdate(){this.look(a(this,h),a(this,f)),this.tickWhile(this.step==="waiting")}updated(e){for(const t of this.querySelectorAll("video")){const i=t.classList.contains("remote")?a(this,f)?.remote:a(this,m);t.srcObject!==(i??null)&&(t.srcObject=i??null)}e.has("step")&&this.step!=="talking"&&this.step!=="choose"&&this.querySelector("h1")?.focus()}render(){switch(this.step){case"choose":return n(this,o,R).call(this);case"waiting":return n(this,o,j).call(this);case"talking":return n(this,o,J).call(this);case"nobody":return n(this,o,D).call(this,"Nobody is here","Nobody else was looking just now.");case"over":return n(this,o,D).call(this,"It is over",this.why)}}};g=new WeakMap;$=new WeakMap;h=new WeakMap;p=new WeakMap;f=new WeakMap;m=new WeakMap;S=new WeakMap;o=new WeakSet;R=function(){return d`<main class="page narrow">
      <header class="brand">${E}<h1>Meet a stranger</h1></header>
      <p class="lead">Somebody you do not know, as nobody in particular. Nothing of it is kept.</p>
      <form class="card stack" @submit=${e=>{n(this,o,Y).call(this,e)}}>
        <fieldset class="choice">
          <legend>How do you want to talk?</legend>
          <label><input type="radio" name="pool" value="text" checked /> ${A.chat} Text</label>
          <label><input type="radio" name="pool" value="video" /> ${A.video} Video</label>
        </fieldset>
        <label
          >Interests <span class="soft">(if you like, with commas)</span>
          <input name="interests" autocomplete="off" placeholder="jazz, climbing, rust" value=${a(this,g).join(", ")}
        /></label>
        ${this.error?d`<p class="error" role="alert">${this.error}</p>`:b}
        <button class="primary">Find somebody</button>
      </form>
      <p class="hint">${A.lock} Do not say who you are or where you live. You can go on to the next at any time.</p>
      <footer>
        <nav aria-label="Other ways to talk"><a href="/">A room for two</a><a href="/chats">Messenger</a></nav>
      </footer>
    </main>`};Y=async function(e){e.preventDefault();const t=new FormData(e.target);this.pool=t.get("pool")==="video"?"video":"text",c(this,g,ft(String(t.get("interests")??""))),this.error="";try{const{pairing:r,iceServers:l}=await K();if(!r)throw new Error("This server does not bring strangers together.");c(this,S,l),this.pool==="video"&&c(this,m,await ut())}catch(r){this.error=r.message;return}const[{dial:i}]=await G();n(this,o,P).call(this);const s=new et({login:{url:Q(),user:"~anon",password:I(32),device:`web-${I()}`,keep:!1},me:"",dial:i});c(this,h,s),s.on.online=()=>{n(this,o,H).call(this)},s.on.paired=(r,l)=>n(this,o,V).call(this,r,l),s.on.unpaired=()=>{this.step==="waiting"&&(this.step="nobody")},s.on.ended=r=>{r===a(this,p)&&n(this,o,_).call(this,st(r.ended?.why??"",r.ended?.mine??!1,"The stranger"))},s.on.signal=(r,l)=>{a(this,f)?.hear(l)},s.watch(()=>{s.connection.state==="refused"&&(n(this,o,C).call(this),this.error="The server lets nobody in to meet strangers just now. Try again later.",this.step="choose")}),s.start()};H=async function(){const[e,t]=[a(this,h),a(this,p)];if(e){if(this.step==="waiting")return await n(this,o,k).call(this);this.step!=="talking"||!t||e.ask("chat/~/info",{}).catch(i=>{i instanceof N&&i.code!=="unavailable"&&i.code!=="limit"&&a(this,p)===t&&n(this,o,_).call(this,"The connection was lost for too long.")})}};k=async function(){try{const e={interests:a(this,g),ttl:dt};await a(this,h)?.command(`pair/${this.pool}/next`,e)}catch(e){if(!(e instanceof N))return;e.retryAfter!==void 0?setTimeout(()=>{n(this,o,k).call(this)},e.retryAfter):n(this,o,_).call(this,e.message)}};P=function(){n(this,o,T).call(this),c(this,p,void 0),c(this,$,Date.now()),this.step="waiting",document.title="Looking for somebody – Tidings"};x=function(){n(this,o,P).call(this),a(this,h)?.connection.state==="online"&&n(this,o,k).call(this)};V=function(e,t){const i=a(this,h);if(i){for(const s of[...i.chats.values()])s!==e&&i.forget(s);c(this,p,e),this.shared=typeof t.interest=="string"?t.interest:"",this.pool==="video"&&c(this,f,new rt({peer:()=>new RTCPeerConnection({iceServers:a(this,S)}),signal:s=>i.command("chat/~/signal",s),local:a(this,m)})),this.step="talking"}};_=function(e){n(this,o,T).call(this),c(this,p,void 0),this.why=e,this.step="over",document.title="It is over – Tidings"};T=function(){a(this,f)?.end(),c(this,f,void 0)};C=function(){n(this,o,T).call(this);const e=a(this,h);c(this,h,void 0),c(this,p,void 0),e?.stop();for(const t of a(this,m)?.getTracks()??[])t.stop();c(this,m,void 0)};L=function(){n(this,o,C).call(this),this.step="choose",document.title="Tidings"};j=function(){const e=Date.now()-a(this,$),t=a(this,g).length>0&&e<pt;return d`<main class="page narrow waiting">
      <header class="brand">${E}<h1 tabindex="-1">Looking for somebody</h1></header>
      ${a(this,h)?d`<t-connection .session=${a(this,h)}></t-connection>`:b}
      ${this.pool==="video"?d`<video class="local preview" autoplay playsinline muted .muted=${!0} aria-label="Your own picture"></video>`:b}
      <p class="lead" role="status">
        ${t?d`Somebody who likes ${a(this,g).map(i=>d`<span class="chip">${i}</span> `)}`:a(this,g).length>0?"Nobody yet who likes the same: now anybody will do.":"Anybody will do."}
      </p>
      <p class="hint"><span class="pulse" aria-hidden="true"></span> Waiting for ${it(e)}</p>
      <p><button @click=${()=>n(this,o,L).call(this)}>Stop</button></p>
    </main>`};J=function(){const e=a(this,h),t=a(this,p);return!e||!t?d``:d`<t-talk
      class="screen ${this.pool==="video"?"with-stage":""}"
      .session=${e}
      .chat=${t}
      .name=${"Stranger"}
      .about=${this.shared?`You both like ${this.shared}`:"Say hello"}
      .stage=${a(this,f)?n(this,o,U).call(this,a(this,f)):b}
      .actions=${d`<button class="primary" @click=${()=>n(this,o,x).call(this)}>Next</button>
        <button class="end" @click=${()=>{n(this,o,F).call(this)}}>End</button>`}
    ></t-talk>`};U=function(e){const t={waiting:"Calling…",connecting:"Connecting the pictures…",connected:"",failed:"The pictures do not get through. You can go on writing.",over:""}[e.state],i=(s,r)=>{for(const l of a(this,m)?.getTracks()??[])l.kind===s&&(l.enabled=!r)};return d`<section class="stage" aria-label="Video">
      <video class="remote" autoplay playsinline aria-label="The stranger’s picture"></video>
      <video class="local" autoplay playsinline muted .muted=${!0} aria-label="Your own picture"></video>
      <p class="said" role="status">${t}</p>
      <div class="controls">
        <button
          aria-pressed=${this.quiet}
          @click=${()=>{this.quiet=!this.quiet,i("audio",this.quiet)}}
        >
          ${this.quiet?"Sound is off":"Mute"}
        </button>
        <button
          aria-pressed=${this.dark}
          @click=${()=>{this.dark=!this.dark,i("video",this.dark)}}
        >
          ${this.dark?"Camera is off":"Hide me"}
        </button>
      </div>
    </section>`};F=async function(){const[e,t]=[a(this,h),a(this,p)];e&&t&&await e.end(t).catch(()=>{}),n(this,o,_).call(this,"You ended the chat.")};D=function(e,t){return d`<main class="page narrow">
      <header class="brand">${E}<h1 tabindex="-1">${e}</h1></header>
      <p class="lead" role="status">${t}</p>
      <div class="actions">
        <button class="primary" @click=${()=>n(this,o,x).call(this)}>Find somebody else</button>
        <button @click=${()=>n(this,o,L).call(this)}>Stop</button>
      </div>
    </main>`};v([y()],u.prototype,"step",2);v([y()],u.prototype,"pool",2);v([y()],u.prototype,"error",2);v([y()],u.prototype,"why",2);v([y()],u.prototype,"shared",2);v([y()],u.prototype,"quiet",2);v([y()],u.prototype,"dark",2);u=v([Z("t-strangers")],u);const G=()=>Promise.all([W(()=>import("./mqtt-BO0vdnDp.js"),[]),W(()=>import("./talk-DuX_-_vR.js"),__vite__mapDeps([0,1,2,3,4,5,6,7,8]))]);async function ut(){if(!navigator.mediaDevices)throw new Error("Video needs a page on https, or on this machine itself.");try{return await navigator.mediaDevices.getUserMedia({audio:!0,video:{width:{ideal:640},height:{ideal:480}}})}catch{throw new Error("There is no camera, or the page may not use it. Allow it in the browser, or choose text.")}}export{u as StrangersPage,ft as interestsOf,kt as open};

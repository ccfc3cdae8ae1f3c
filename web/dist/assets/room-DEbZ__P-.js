const __vite__mapDeps=(i,m=__vite__mapDeps,d=(m.f||(m.f=["assets/talk-DuX_-_vR.js","assets/icons-I7-K48Xo.js","assets/page-ISBS-S02.js","assets/messages-C3bfKhgu.js","assets/draft-D7HC8EvH.js","assets/files-Bv8nI5bI.js","assets/watched-B41rlUUT.js","assets/copy-DjJMiP4M.js","assets/format-CijQ4Vc-.js"])))=>i.map(i=>d[i]);
import{_}from"./index-DZ-pLpkb.js";import{b as f,m as k,A as O,i as x}from"./icons-I7-K48Xo.js";import{P as A,t as W,b as I,c as U,d as M,r as p,a as R}from"./page-ISBS-S02.js";import{S as q,T as L}from"./session-CeFJzfv7.js";import{k as F}from"./draft-D7HC8EvH.js";import{c as b}from"./confirm-nwEIxxpg.js";import{c as H,t as V}from"./format-CijQ4Vc-.js";import{F as z}from"./files-Bv8nI5bI.js";import{a as B,k as G,f as K}from"./seat-Bgahqisy.js";import{w as N}from"./why-CFJ5FMoO.js";import"./watched-B41rlUUT.js";var J=Object.defineProperty,Q=Object.getOwnPropertyDescriptor,$=e=>{throw TypeError(e)},h=(e,t,s,a)=>{for(var o=a>1?void 0:a?Q(t,s):t,n=e.length-1,u;n>=0;n--)(u=e[n])&&(o=(a?u(t,s,o):u(o))||o);return a&&o&&J(t,s,o),o},g=(e,t,s)=>t.has(e)||$("Cannot "+s),d=(e,t,s)=>(g(e,t,"read from private field"),s?s.call(e):t.get(e)),y=(e,t,s)=>t.has(e)?$("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,s),c=(e,t,s)=>(g(e,t,"access private method"),s),l,m,i,T,C,E,w,P,v,S;const ce=()=>document.createElement("t-room");let r=class extends A{constructor(){super(...arguments),y(this,i),this.error="",this.busy=!1,this.waitUntil=0,y(this,l,`~${location.pathname.split("/")[2]??""}`),y(this,m,X())}connectedCallback(){super.connectedCallback();const e=B(d(this,l));e?c(this,i,w).call(this,e):setTimeout(()=>{D()},200)}disconnectedCallback(){super.disconnectedCallback(),this.session?.stop()}render(){if(this.look(this.session),this.ended!==void 0)return c(this,i,S).call(this);const{session:e,chat:t,seat:s}=this;return!e||!t||!s?c(this,i,T).call(this):f`<t-talk
      class="screen"
      .session=${e}
      .chat=${t}
      .name=${s.other.name}
      .files=${this.files}
      .actions=${f`<button class="end" @click=${()=>{c(this,i,P).call(this)}}>End chat</button>`}
    ></t-talk>`}updated(){this.ended!==void 0&&document.activeElement===document.body&&this.querySelector("h1")?.focus()}};l=new WeakMap;m=new WeakMap;i=new WeakSet;T=function(){const e=this.waitUntil-Date.now();return this.tickWhile(e>0),f`<main class="page narrow">
      <header class="brand">${k}<h1>${d(this,m)?`Hello ${d(this,m)}`:"Hello"}</h1></header>
      <p class="lead">Type the code you were given, and the chat opens.</p>
      <form class="card stack" @submit=${t=>{c(this,i,E).call(this,t)}}>
        <label
          >Code
          <input
            name="code"
            class="code"
            required
            autofocus
            autocomplete="off"
            autocapitalize="characters"
            spellcheck="false"
            placeholder="ABCD-2345"
            aria-invalid=${this.error!==""}
            aria-describedby="error"
            @input=${t=>c(this,i,C).call(this,t)}
        /></label>
        <p id="error" class="error" role="alert">
          ${this.error}${e>0?f` <span aria-live="off">Wait ${H(e)}.</span>`:O}
        </p>
        <button class="primary" ?disabled=${this.busy||e>0}>${this.busy?"Opening…":"Open the chat"}</button>
      </form>
      <p class="hint">${x.lock} What is said here is in memory only, and gone when either of you ends it.</p>
    </main>`};C=function(e){const t=e.target;t.selectionStart===t.value.length&&(t.value=V(t.value)),this.error=""};E=async function(e){e.preventDefault();const t=this.querySelector("[name=code]");[this.busy,this.error]=[!0,""];try{const s=await W(d(this,l),t?.value??"");G(d(this,l),s),await c(this,i,w).call(this,s)}catch(s){const{code:a,message:o,retryAfter:n}=s;this.error=a==="not_opened"?"This code does not open the chat. Look at each letter; or the chat may have ended.":n!==void 0?"Too many wrong codes.":o,n!==void 0&&(this.waitUntil=Date.now()+n),t?.select()}this.busy=!1};w=async function(e){const[{dial:t}]=await D(),s=new q({login:{url:U(),user:d(this,l),password:e.token,device:`web-${I()}`,keep:!1},me:e.user,peer:e.other.user,dial:t,store:new L(sessionStorage,`outbox:${e.room}`)}),a=s.chat(e.room);s.watchPresence(e.other.user),s.on.ended=()=>c(this,i,v).call(this,a),s.watch(()=>{s.connection.state==="refused"&&!a.ended&&(a.ended={why:"closed",mine:!1},c(this,i,v).call(this,a))}),[this.seat,this.session,this.chat]=[e,s,a],await s.start();const o=await M().then(({mediaBytesMax:n})=>n,()=>0);o>0&&(this.files=new z(s,`${d(this,l)}:${e.token}`,o))};P=async function(){const{session:e,chat:t,seat:s}=this;if(!(!e||!t||!s||!await b({title:"End the chat?",text:`It ends for ${s.other.name} too, and everything said in it is destroyed.`,yes:"End chat",danger:!0})))try{await e.end(t)}catch{await b({title:"Not ended",text:"There is no connection. Try again when there is one.",yes:"OK",no:"Close"})}};v=function(e){const{why:t,mine:s}=e.ended??{why:"closed",mine:!1};this.ended=N(t,s,this.seat?.other.name??"The other"),K(d(this,l)),F(e.name,""),this.session?.stop(),this.files?.stop(),document.title="The chat has ended – Tidings"};S=function(){return f`<main class="page narrow ended">
      <header class="brand">${k}<h1 tabindex="-1">The chat has ended</h1></header>
      <p class="lead" role="status">${this.ended} Everything said in it is destroyed: nobody can read it any more.</p>
      <p><a class="button primary" href="/">Make a new room</a></p>
    </main>`};h([p()],r.prototype,"seat",2);h([p()],r.prototype,"session",2);h([p()],r.prototype,"chat",2);h([p()],r.prototype,"files",2);h([p()],r.prototype,"error",2);h([p()],r.prototype,"busy",2);h([p()],r.prototype,"waitUntil",2);h([p()],r.prototype,"ended",2);r=h([R("t-room")],r);const D=()=>Promise.all([_(()=>import("./mqtt-BO0vdnDp.js"),[]),_(()=>import("./talk-DuX_-_vR.js"),__vite__mapDeps([0,1,2,3,4,5,6,7,8]))]);function X(){try{return decodeURIComponent(location.hash.slice(1)).trim().slice(0,40)}catch{return""}}export{r as RoomPage,ce as open};

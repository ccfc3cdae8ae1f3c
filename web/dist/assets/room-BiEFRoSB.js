const __vite__mapDeps=(i,m=__vite__mapDeps,d=(m.f||(m.f=["assets/talk-COXEw-ls.js","assets/icons-C4OZ1Tkm.js","assets/page-BmFCszxH.js","assets/messages-C-lV9eom.js","assets/draft-D7HC8EvH.js"])))=>i.map(i=>d[i]);
import{_ as w}from"./index-BgIpwZ6l.js";import{b as u,m as k,A as O,i as A}from"./icons-C4OZ1Tkm.js";import{P as W,c as x,b as I,t as U,d as R,e as q,r as p,a as M}from"./page-BmFCszxH.js";import{S as L,T as H}from"./session-7_avFSaI.js";import{k as V}from"./draft-D7HC8EvH.js";import{c as b}from"./confirm-C0pRWn9b.js";import{a as z,k as B,f as G}from"./seat-Bgahqisy.js";import{w as K}from"./why-CFJ5FMoO.js";var N=Object.defineProperty,F=Object.getOwnPropertyDescriptor,$=e=>{throw TypeError(e)},c=(e,t,s,a)=>{for(var n=a>1?void 0:a?F(t,s):t,h=e.length-1,f;h>=0;h--)(f=e[h])&&(n=(a?f(t,s,n):f(n))||n);return a&&n&&N(t,s,n),n},g=(e,t,s)=>t.has(e)||$("Cannot "+s),d=(e,t,s)=>(g(e,t,"read from private field"),s?s.call(e):t.get(e)),y=(e,t,s)=>t.has(e)?$("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,s),r=(e,t,s)=>(g(e,t,"access private method"),s),l,m,o,T,C,E,_,P,v,S;const ae=()=>document.createElement("t-room");let i=class extends W{constructor(){super(...arguments),y(this,o),this.error="",this.busy=!1,this.waitUntil=0,y(this,l,`~${location.pathname.split("/")[2]??""}`),y(this,m,J())}connectedCallback(){super.connectedCallback();const e=z(d(this,l));e?r(this,o,_).call(this,e):setTimeout(()=>{D()},200)}disconnectedCallback(){super.disconnectedCallback(),this.session?.stop()}render(){if(this.look(this.session),this.ended!==void 0)return r(this,o,S).call(this);const{session:e,chat:t,seat:s}=this;return!e||!t||!s?r(this,o,T).call(this):u`<t-talk
      class="screen"
      .session=${e}
      .chat=${t}
      .name=${s.other.name}
      .actions=${u`<button class="end" @click=${()=>{r(this,o,P).call(this)}}>End chat</button>`}
    ></t-talk>`}updated(){this.ended!==void 0&&document.activeElement===document.body&&this.querySelector("h1")?.focus()}};l=new WeakMap;m=new WeakMap;o=new WeakSet;T=function(){const e=this.waitUntil-Date.now();return this.tickWhile(e>0),u`<main class="page narrow">
      <header class="brand">${k}<h1>${d(this,m)?`Hello ${d(this,m)}`:"Hello"}</h1></header>
      <p class="lead">Type the code you were given, and the chat opens.</p>
      <form class="card stack" @submit=${t=>{r(this,o,E).call(this,t)}}>
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
            @input=${t=>r(this,o,C).call(this,t)}
        /></label>
        <p id="error" class="error" role="alert">
          ${this.error}${e>0?u` <span aria-live="off">Wait ${x(e)}.</span>`:O}
        </p>
        <button class="primary" ?disabled=${this.busy||e>0}>${this.busy?"Opening…":"Open the chat"}</button>
      </form>
      <p class="hint">${A.lock} What is said here is in memory only, and gone when either of you ends it.</p>
    </main>`};C=function(e){const t=e.target;t.selectionStart===t.value.length&&(t.value=I(t.value)),this.error=""};E=async function(e){e.preventDefault();const t=this.querySelector("[name=code]");[this.busy,this.error]=[!0,""];try{const s=await U(d(this,l),t?.value??"");B(d(this,l),s),await r(this,o,_).call(this,s)}catch(s){const{code:a,message:n,retryAfter:h}=s;this.error=a==="not_opened"?"This code does not open the chat. Look at each letter; or the chat may have ended.":h!==void 0?"Too many wrong codes.":n,h!==void 0&&(this.waitUntil=Date.now()+h),t?.select()}this.busy=!1};_=async function(e){const[{dial:t}]=await D(),s=new L({login:{url:q(),user:d(this,l),password:e.token,device:`web-${R()}`,keep:!1},me:e.user,peer:e.other.user,dial:t,store:new H(sessionStorage,`outbox:${e.room}`)}),a=s.chat(e.room);s.watchPresence(e.other.user),s.on.ended=()=>r(this,o,v).call(this,a),s.watch(()=>{s.connection.state==="refused"&&!a.ended&&(a.ended={why:"closed",mine:!1},r(this,o,v).call(this,a))}),[this.seat,this.session,this.chat]=[e,s,a],await s.start()};P=async function(){const{session:e,chat:t,seat:s}=this;if(!(!e||!t||!s||!await b({title:"End the chat?",text:`It ends for ${s.other.name} too, and everything said in it is destroyed.`,yes:"End chat",danger:!0})))try{await e.end(t)}catch{await b({title:"Not ended",text:"There is no connection. Try again when there is one.",yes:"OK",no:"Close"})}};v=function(e){const{why:t,mine:s}=e.ended??{why:"closed",mine:!1};this.ended=K(t,s,this.seat?.other.name??"The other"),G(d(this,l)),V(e.name,""),this.session?.stop(),document.title="The chat has ended – Tidings"};S=function(){return u`<main class="page narrow ended">
      <header class="brand">${k}<h1 tabindex="-1">The chat has ended</h1></header>
      <p class="lead" role="status">${this.ended} Everything said in it is destroyed: nobody can read it any more.</p>
      <p><a class="button primary" href="/">Make a new room</a></p>
    </main>`};c([p()],i.prototype,"seat",2);c([p()],i.prototype,"session",2);c([p()],i.prototype,"chat",2);c([p()],i.prototype,"error",2);c([p()],i.prototype,"busy",2);c([p()],i.prototype,"waitUntil",2);c([p()],i.prototype,"ended",2);i=c([M("t-room")],i);const D=()=>Promise.all([w(()=>import("./mqtt-DWVU0ahj.js"),[]),w(()=>import("./talk-COXEw-ls.js"),__vite__mapDeps([0,1,2,3,4]))]);function J(){try{return decodeURIComponent(location.hash.slice(1)).trim().slice(0,40)}catch{return""}}export{i as RoomPage,ae as open};
